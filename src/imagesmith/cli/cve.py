"""`imagesmith cve`: which images have it, where they run on, and what mends them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, json_text, settings_of
from imagesmith.cli.screen import echo

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from imagesmith.settings import Settings
    from imagesmith.vulnerabilities.answers import AffectedImage, FleetAnswer
    from imagesmith.vulnerabilities.question import Found


@click.command()
@click.argument("name", required=False, default="")
@click.option("--package", default="", help="NAME or NAME@VERSION instead of a vulnerability.")
@click.option("--license", default="", help="An SPDX identifier instead of a vulnerability.")
@click.option("--file-digest", default="", help="The digest of a manifest or a disk instead of a vulnerability.")
@click.option("--rebuild", is_flag=True, help="Start the pipelines that mend it, parents before children.")
@data_dir_option
@json_option
def cve(
    name: str, package: str, license: str, file_digest: str, *, rebuild: bool, data_dir: Path, as_json: bool
) -> None:
    """Show which of all images have the vulnerability NAME, where they run on and what mends them.

    \b
    Examples:
      imagesmith cve CVE-2026-1234 --data-dir ./data
      imagesmith cve --package openssl@3.0.11-1 --json --data-dir ./data | jq -r '.images[].arn'
      imagesmith cve CVE-2026-1234 --rebuild --data-dir ./data

    Compares what was read when images were built with the advisories that are imported now; nothing is scanned.
    Reads the store, so no server needs to run, except for --rebuild. Images of all accounts count.
    """
    if sum(map(bool, (name, package, license, file_digest))) != 1:
        raise click.UsageError("name one thing: CVE-..., --package, --license or --file-digest.")
    if rebuild and not name:
        raise click.UsageError("--rebuild mends a vulnerability; name it: imagesmith cve CVE-... --rebuild")
    answer = _ask(settings_of(data_dir), name, package, license, file_digest)
    if as_json and not rebuild:
        # one line: indenting ten thousand images takes longer than finding them
        echo(json_text({"question": name or package or license or file_digest, **answer.to_json()}))
    elif not as_json:
        echo("\n".join(_lines(answer, name)))
    if rebuild:
        # imported late: it needs a client of the server
        from imagesmith.cli.pipeline_starts import start_pipelines

        start_pipelines(data_dir, answer.pipelines, as_json=as_json)


def _ask(settings: Settings, name: str, package: str, license: str, digest: str) -> FleetAnswer:
    # imported late: `imagesmith --help` does not load the database
    from imagesmith.cli.store import opened_store
    from imagesmith.vulnerabilities import question
    from imagesmith.vulnerabilities.answers import describe

    with opened_store(settings) as tx:
        try:
            if package:
                found = question.images_with_package(tx, package)
            elif license:
                found = question.images_with_license(tx, license)
            elif digest:
                found = question.images_with_digest(tx, digest)
            else:
                found = _vulnerable(tx, settings, name)
        except question.BadQuestion as error:
            raise CommandFailed(str(error)) from error
        return describe(tx, found, vulnerable=bool(name))


def _vulnerable(tx: Connection, settings: Settings, name: str) -> Found:
    from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
    from imagesmith.vulnerabilities.question import vulnerable_images

    database = AdvisoryDatabase.of(settings)
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(database.reader()) if database.path.exists() else None
            return vulnerable_images(tx, reader, name)
        except AdvisoriesError as error:
            raise CommandFailed(str(error)) from error


def _lines(answer: FleetAnswer, name: str) -> Iterator[str]:
    count = len(answer.images)
    yield f"{count} {'image' if count == 1 else 'images'} {f'affected by {name}' if name else 'found'}"
    for image in answer.images:
        yield from _image_lines(image)
    if answer.pipelines:
        yield "\nstart, in this order:"
        for item in answer.pipelines:
            after = f"  after {', '.join(_short(arn) for arn in item.after)}" if item.after else ""
            pinned = f"  (its recipe is fixed to {item.pinned})" if item.pinned else ""
            yield f"  {_short(item.arn)}{after}{pinned}"
    for note in answer.notes:
        yield f"note: {note}"


def _image_lines(image: AffectedImage) -> Iterator[str]:
    yield f"\n{image.arn}  {image.status}"
    for item in image.packages:
        severity = f"{item.severity}  " if item.severity else ""
        fixed = f", fixed in {item.fixed}" if item.fixed else ", no fix" if item.severity else ""
        verdict = f"; {item.verdict}" if item.verdict else ""
        yield f"  {severity}{item.name} {item.version}{fixed}{verdict}"
    if image.scanned:
        yield "  found by the scan of its build"
    if image.outputs:
        yield f"  runs on: {', '.join(image.outputs)}"
    if image.children:
        yield f"  children: {', '.join(_short(arn) for arn in image.children)}"
    if image.remedy is not None:
        yield f"  {image.remedy}{f': {_short(image.parent)}' if image.remedy.name == 'PARENT' else ''}"


def _short(arn: str) -> str:
    """`web/1.0.0/1` of an ARN."""
    return arn.rpartition(":")[2].partition("/")[2]
