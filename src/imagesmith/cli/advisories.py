"""`imagesmith advisories`: imports vulnerability advisories for scans; works without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.screen import echo, make_console
from imagesmith.cli.store import has_store, opened_database, opened_store
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.feeds import Imported, import_advisories
from imagesmith.vulnerabilities.answers import describe
from imagesmith.vulnerabilities.news import News, match_new_advisories


@click.group(cls=PlainGroup)
def advisories() -> None:
    """Import security advisories: OSV documents and the Debian security tracker."""


@advisories.command("import")
@click.argument("source")
@data_dir_option
@json_option
def import_command(source: str, data_dir: Path, as_json: bool) -> None:
    """Import advisories from a folder, a .zip, a .json or a URL.

    \b
    Replaces an earlier import of the same source; other sources stay. Of a document
    that several sources have, the one modified last is used.
    Example:  imagesmith advisories import ./osv/Debian.zip --data-dir ./data

    What is new is then compared with the packages of all images: one event for each image that is newly affected.
    """
    _report(_import(data_dir, source), _news(data_dir), as_json=as_json)


@advisories.command()
@click.option(
    "--rebuild", is_flag=True, help="Start the pipelines of the images that are newly affected, parents first."
)
@data_dir_option
@json_option
def update(rebuild: bool, data_dir: Path, as_json: bool) -> None:
    """Import again from `source` in [advisories] of the settings.

    \b
    Example:  imagesmith advisories update --rebuild --data-dir ./data

    What is new is then compared with the packages of all images: one event for each image that is newly affected.
    """
    source = settings_of(data_dir).advisories.source
    if not source:
        raise CommandFailed(
            "the settings have no source of advisories",
            f'add [advisories] with source = "FOLDER OR URL" to {data_dir / "settings.toml"}, '
            "or run: imagesmith advisories import SOURCE",
        )
    done = _import(data_dir, source)
    news = _news(data_dir)
    _report(done, news, as_json=as_json and not rebuild)
    if rebuild and news is not None:
        # imported late: it needs a client of the server
        from imagesmith.cli.pipeline_starts import start_pipelines

        with opened_store(settings_of(data_dir)) as tx:
            pipelines = describe(tx, news.found(), vulnerable=True).pipelines
        start_pipelines(data_dir, pipelines, as_json=as_json)


@advisories.command()
@data_dir_option
@json_option
def status(data_dir: Path, as_json: bool) -> None:
    """Show the imported advisories: source, time and systems.

    \b
    Example:  imagesmith advisories status --data-dir ./data --json
    """
    try:
        found = AdvisoryDatabase.of(settings_of(data_dir)).status()
    except AdvisoriesError as error:
        raise CommandFailed(str(error)) from error
    if as_json:
        print_json(found.to_json())
        return
    if not found.feeds:
        echo("no advisories have been imported; import some with: imagesmith advisories import SOURCE")
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
    database = AdvisoryDatabase.of(settings_of(data_dir))
    try:
        return import_advisories(database, source, datetime.now(UTC), on_line=lambda line: echo(line, err=True))
    except AdvisoriesError as error:
        raise CommandFailed(str(error)) from error


def _news(data_dir: Path) -> News | None:
    """Compare what is new with all images; None where no server has run yet."""
    settings = settings_of(data_dir)
    if not has_store(settings):
        return None
    with opened_database(settings, "changed") as database:
        try:
            return match_new_advisories(AdvisoryDatabase.of(settings), database, lambda: datetime.now(UTC))
        except AdvisoriesError as error:
            raise CommandFailed(str(error)) from error


def _report(done: Imported, news: News | None, *, as_json: bool) -> None:
    if as_json:
        print_json({**done.to_json(), "news": news.to_json() if news is not None else None})
        return
    withdrawn = f", {done.withdrawn:,} of them withdrawn" if done.withdrawn else ""
    echo(f"{done.advisories:,} advisories from {done.source}; {done.skipped:,} documents contained none{withdrawn}")
    if news is None:
        echo("there are no images yet that they could be about")
        return
    echo(f"{news.records:,} records are new; {len(news.images):,} images are newly affected")
    for image in news.images:
        echo(f"  {image.image_arn}  {', '.join(sorted(image.vulnerabilities))}")
    if news.undecided:
        echo(f"note: {news.undecided:,} times a version could not be compared, and was taken as not affected")
    if news.unknown:
        echo(f"note: {news.unknown:,} images state no operating system that is known here; they were not compared")
