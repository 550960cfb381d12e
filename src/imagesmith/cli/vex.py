"""`imagesmith vex`: verdicts about vulnerabilities, as OpenVEX states them; works without a server."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy.engine import Connection

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.cli.store import changed_store, opened_store
from imagesmith.cli.stored_images import stored_image
from imagesmith.settings import Settings
from imagesmith.store.ancestry import lineages
from imagesmith.store.vex import VexStatement, VexStatus, put_statements, remove_statement, statements
from imagesmith.values.names import iso_instant
from imagesmith.vulnerabilities.openvex import (
    JUSTIFICATIONS,
    MAX_BYTES,
    BadDocument,
    checked,
    read_openvex,
    statement_id,
    write_openvex,
)
from imagesmith.vulnerabilities.products import is_package_url, names_image, unknown_product
from imagesmith.vulnerabilities.question import BadQuestion, name_and_version, vulnerability_name
from imagesmith.vulnerabilities.verdicts import packages_of

_LONGEST = 1000


@click.group(cls=PlainGroup)
def vex() -> None:
    """State which vulnerabilities do not affect which images; read and write OpenVEX."""


def _printable(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if len(text) > _LONGEST or (text and not text.isprintable()):
        raise click.BadParameter(f"it is one line of at most {_LONGEST} printable characters")
    return text


@vex.command()
@click.argument("image")
@click.argument("vulnerability")
@click.option("--package", default="", help="NAME or NAME@VERSION of a package in the image.  [default: all]")
@click.option(
    "--status", type=click.Choice([str(item) for item in VexStatus]), default="not_affected", show_default=True
)
@click.option("--justification", type=click.Choice(JUSTIFICATIONS), help="Why it is not affected.")
@click.option("--impact", default="", callback=_printable, help="Why it is not affected, in words.")
@click.option("--action", default="", callback=_printable, help="What to do; affected needs it.")
@click.option("--author", default="", callback=_printable, help="Who states it.  [default: the user]")
@click.option("--every-build", is_flag=True, help="About every version and build of the image's name.")
@data_dir_option
def add(
    image: str, vulnerability: str, *, package: str, status: str, justification: str | None, impact: str,
    action: str, author: str, every_build: bool, data_dir: Path,
) -> None:  # fmt: skip
    """State a verdict about VULNERABILITY in IMAGE, and in its children that have the same package.

    \b
    Example:
      imagesmith vex add base/1.0.0/4 CVE-2026-1234 --package openssl \\
        --justification vulnerable_code_not_in_execute_path --data-dir ./data

    A finding with the verdict not_affected or fixed stays visible and fails no image. A later verdict about the
    same replaces it.
    """
    settings, now = settings_of(data_dir), datetime.now(UTC)
    with changed_store(settings) as tx:
        record = stored_image(tx, settings, image)
        product = record.arn.rpartition("/")[0].rpartition("/")[0] if every_build else record.arn
        try:
            one = VexStatement(
                id="", vulnerability=vulnerability_name(vulnerability), product=product, status=VexStatus(status),
                justification=justification or "", impact=impact, action=action,
                author=author or getpass.getuser(), stated=now,
            )  # fmt: skip
            found = [_about_package(one, purl) for purl in _purls(tx, record.arn, package)]
        except (BadDocument, BadQuestion) as error:
            raise CommandFailed(str(error)) from error
        if put_statements(tx, settings.account, settings.region, found):
            raise CommandFailed(
                "a verdict about the same was stated at a later time than now",
                "remove it with: imagesmith vex rm ID",
            )
    for item in found:
        echo(f"{item.id}  {item.vulnerability}  {item.product}  {item.package}  {item.reason}")


def _about_package(item: VexStatement, purl: str) -> VexStatement:
    id = statement_id(item.vulnerability, item.product, purl)
    return checked(replace(item, id=id, package=purl), "the statement")


@vex.command("list")
@click.argument("vulnerability", required=False)
@data_dir_option
@json_option
def list_statements(vulnerability: str | None, data_dir: Path, as_json: bool) -> None:
    """List the verdicts of this account and Region, oldest first.

    \b
    Example:  imagesmith vex list CVE-2026-1234 --json --data-dir ./data
    """
    settings = settings_of(data_dir)
    try:
        names = [vulnerability_name(vulnerability)] if vulnerability else None
    except BadQuestion as error:
        raise CommandFailed(str(error)) from error
    with opened_store(settings) as tx:
        found = statements(tx, settings.account, settings.region, names)
    Listing(
        columns=("id", "vulnerability", "product", "package", "verdict"),
        rows=((item.id, item.vulnerability, item.product, item.package, item.reason) for item in found),
        documents=[{**vars(item), "stated": iso_instant(item.stated)} for item in found],
        empty="no verdicts yet",
    ).show(as_json=as_json)


@vex.command("rm")
@click.argument("id")
@data_dir_option
def remove(id: str, data_dir: Path) -> None:
    """Remove the verdict ID; findings that it settled count again.

    \b
    Example:  imagesmith vex rm 3f0c2a9d81b7e654 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        if not remove_statement(tx, settings.account, settings.region, id):
            raise CommandFailed(f"there is no verdict {id}", "list them with: imagesmith vex list")


@vex.command()
@click.argument("image", required=False)
@click.option("--flat", is_flag=True, help="Name packages as products, for readers of SBOMs that know no images.")
@click.option("--author", default="", callback=_printable, help="Author of the document.  [default: the user]")
@data_dir_option
def export(image: str | None, *, flat: bool, author: str, data_dir: Path) -> None:
    """Print the verdicts as OpenVEX; with IMAGE those that are about it by name.

    \b
    Examples:
      imagesmith vex export --data-dir ./data >all.openvex.json
      imagesmith vex export web/1.0.0/3 --flat --data-dir ./data >web.openvex.json
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = statements(tx, settings.account, settings.region)
        if image is not None:
            found = list(_about(tx, settings, image, found, flat=flat))
    if not found:
        raise CommandFailed("there is no verdict to export", "list them with: imagesmith vex list")
    echo(
        write_openvex(found, author=author or getpass.getuser(), now=datetime.now(UTC), flat=flat).decode(),
        nl=False,
    )


@vex.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_dir_option
def import_command(file: Path, data_dir: Path) -> None:
    """Take over the statements of an OpenVEX document; all of them, or none.

    \b
    Example:  imagesmith vex import vendor.openvex.json --data-dir ./data

    Products are ARNs of images of this account and Region, package-urls (also pkg:oci/NAME@sha256:...) or *. A
    document with another product is refused, because its statements would apply to nothing here. What was exported
    with --flat is about its packages in every image: import the document without it.
    """
    settings = settings_of(data_dir)
    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    try:
        found = read_openvex(data, now=datetime.now(UTC))
        _refuse_unknown(found, settings)
    except BadDocument as error:
        raise CommandFailed(f"{file}: {error}") from error
    with changed_store(settings) as tx:
        older = put_statements(tx, settings.account, settings.region, found)
    left_out = f"; {older} more were left out: a later one about the same holds" if older else ""
    echo(f"{len(found) - older} verdicts from {file}{left_out}")


def _refuse_unknown(found: Sequence[VexStatement], settings: Settings) -> None:
    for item in found:
        why = unknown_product(
            item.product, partition=settings.partition, region=settings.region, account=settings.account
        )
        if why:
            raise BadDocument(f"'{item.product[:200]}' {why}, so nothing here would obey it")
        if item.package and not is_package_url(item.package):
            raise BadDocument(
                f"'{item.package[:200]}' is not a package-url of a package, so nothing here would obey it"
            )


def _purls(tx: Connection, image_arn: str, text: str) -> Sequence[str]:
    """The package-urls of NAME or NAME@VERSION in an image; one empty text for all packages. Raises BadQuestion."""
    if not text:
        return [""]
    name, version = name_and_version(text)
    found = {
        purl
        for package, purl in packages_of(tx, image_arn)
        if purl and name in (package.name, package.source) and version in ("", package.version)
    }
    if not found:
        raise BadQuestion(f"{image_arn} has no package {text[:80]}")
    return sorted(found)


def _about(
    tx: Connection, settings: Settings, image: str, found: Sequence[VexStatement], *, flat: bool
) -> Iterator[VexStatement]:
    """The statements about an image by its name; with `flat` also those about all packages of it, one by one."""
    record = stored_image(tx, settings, image)
    own = lineages(tx, [record.arn]).get(record.arn)
    digest = own.digest if own is not None else ""
    for item in found:
        named = (
            item.product == "*" or item.product.startswith("pkg:") or names_image(item.product, record.arn, digest)
        )
        if named and flat and not item.package and not item.product.startswith("pkg:"):
            yield from (replace(item, package=purl) for _, purl in packages_of(tx, record.arn) if purl)
        elif named:
            yield item
