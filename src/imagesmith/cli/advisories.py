"""`imagesmith advisories`: what is known about vulnerabilities, imported for scans; works without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from imagesmith.cli.context import (
    CommandFailed,
    data_dir_option,
    json_option,
    make_console,
    print_json,
    settings_of,
)
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.feeds import Imported, import_advisories
from imagesmith.workflows.stores import advisories_folder


@click.group()
def advisories() -> None:
    """Import what is known about vulnerabilities: OSV documents, the Debian security tracker."""


@advisories.command("import")
@click.argument("source")
@data_dir_option
@json_option
def import_command(source: str, data_dir: Path, as_json: bool) -> None:
    """Import advisories from a folder, a .zip, a .json or a URL.

    \b
    What the same source gave before is replaced; other sources stay.
    Example:  imagesmith advisories import ./osv/Debian.zip --data-dir ./data
    """
    _report(_import(data_dir, source), as_json=as_json)


@advisories.command()
@data_dir_option
@json_option
def update(data_dir: Path, as_json: bool) -> None:
    """Import again from `source` in [advisories] of the settings.

    \b
    Example:  imagesmith advisories update --data-dir ./data
    """
    source = settings_of(data_dir).advisories.source
    if not source:
        raise CommandFailed(
            "the settings name no source of advisories",
            f'add [advisories] with source = "FOLDER OR URL" to {data_dir / "settings.toml"}, '
            "or run: imagesmith advisories import SOURCE",
        )
    _report(_import(data_dir, source), as_json=as_json)


@advisories.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> None:
    """Show what was imported, when, and for which systems.

    \b
    Example:  imagesmith advisories status --data-dir ./data --json
    """
    try:
        found = AdvisoryDatabase(advisories_folder(settings_of(data_dir))).status()
    except AdvisoriesError as error:
        raise CommandFailed(str(error)) from error
    if as_json:
        print_json(found.to_json())
        return
    if not found.feeds:
        click.echo("no advisories were imported yet; import some with: imagesmith advisories import SOURCE")
        return
    feeds = Table("source", "imported", "advisories", box=None, pad_edge=False)
    for feed in found.feeds:
        feeds.add_row(feed.source, feed.imported, f"{feed.advisories:,}")
    systems = Table("ecosystem", "packages", box=None, pad_edge=False)
    for name, count in found.ecosystems.items():
        systems.add_row(name, f"{count:,}")
    console = make_console()
    console.print(feeds)
    console.print()
    console.print(systems)


def _import(data_dir: Path, source: str) -> Imported:
    database = AdvisoryDatabase(advisories_folder(settings_of(data_dir)))
    try:
        return import_advisories(
            database, source, datetime.now(UTC), on_line=lambda line: click.echo(line, err=True)
        )
    except AdvisoriesError as error:
        raise CommandFailed(str(error)) from error


def _report(done: Imported, *, as_json: bool) -> None:
    if as_json:
        print_json(done.to_json())
        return
    click.echo(f"{done.advisories:,} advisories from {done.source}; {done.skipped:,} documents held none")
