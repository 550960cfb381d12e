"""`imagesmith image ancestry`, `revoke` and `unrevoke`: what images are built on, and what must not be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy.engine import Connection

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.screen import echo
from imagesmith.cli.store import changed_store, opened_store
from imagesmith.cli.stored_images import stored_image
from imagesmith.distribution.destinations.machine_host import file_name
from imagesmith.settings import Settings
from imagesmith.store import ancestry as lineage
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.store.revocations import (
    Revocation,
    put_revocation,
    remove_revocation,
    revocation_of,
)
from imagesmith.vulnerabilities.answers import outputs_of

_LONGEST = 1000


@click.command()
@click.argument("image")
@data_dir_option
@json_option
def ancestry(image: str, data_dir: Path, as_json: bool) -> None:
    """Show what an image is built on, up to the base, and what is built on it.

    \b
    IMAGE is an ARN, NAME (newest build), NAME/1.0.0 or NAME/1.0.0/3.
    Example:  imagesmith image ancestry web/1.0.0/1 --data-dir ./data

    Parents are found by ARN, and by digest where a recipe names a registry. Reads the store, so no server needs to
    run.
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        record = stored_image(tx, settings, image)
        above = lineage.ancestors(tx, record.arn)
        below = lineage.descendants(tx, record.arn)
        revoked = {
            item.image_arn: found.sentence(item.image_arn)
            for item in (*above, *(child for _, child in below))
            if (found := revocation_of(tx, item.image_arn)) is not None
        }
    base = above[-1].parent if above else ""
    shown = {
        "image": record.arn,
        "parents": [_shown(item, revoked) for item in above[1:]],
        "base": {"reference": base, "digest": above[-1].parent_digest if above else ""},
        "children": [{**_shown(item, revoked), "generation": number} for number, item in below],
        "revoked": revoked.get(record.arn, ""),
    }
    if as_json:
        print_json(shown)
        return
    echo("\n".join(_tree(record, above, below, revoked, base)))


@click.command()
@click.argument("image")
@click.option("--reason", required=True, help="Why; every refusal shows it.")
@data_dir_option
@json_option
def revoke(image: str, reason: str, data_dir: Path, as_json: bool) -> None:
    """Revoke an image and everything that is built on it: no run and no distribution may use them.

    \b
    IMAGE is an ARN, NAME (newest build), NAME/1.0.0 or NAME/1.0.0/3.
    Example:  imagesmith image revoke base/1.0.0/4 --reason 'leaked key in /etc/ssl' --data-dir ./data

    Lists what holds the image and its children. Nothing is removed there: that is yours to decide.
    """
    if not reason.strip() or len(reason) > _LONGEST or not reason.isprintable():
        raise click.BadParameter(f"a reason has 1 to {_LONGEST} printable characters", param_hint="--reason")
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        record = stored_image(tx, settings, image)
        put_revocation(tx, Revocation(record.arn, reason, _author(), datetime.now(UTC)))
        held = _held(
            tx, settings, [record.arn, *(item.image_arn for _, item in lineage.descendants(tx, record.arn))]
        )
    if as_json:
        print_json({"revoked": record.arn, "reason": reason, "images": held})
        return
    echo(f"{record.arn} is revoked; images that are built on it: {len(held) - 1}")
    for item in held:
        echo(f"  {item['arn']}{''.join(f'{chr(10)}    on {location}' for location in item['locations'])}")


@click.command()
@click.argument("image")
@data_dir_option
def unrevoke(image: str, data_dir: Path) -> None:
    """Withdraw the revocation of an image; its children may be used again too.

    \b
    Example:  imagesmith image unrevoke base/1.0.0/4 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        record = stored_image(tx, settings, image)
        inherited = revocation_of(tx, record.arn)
        if not remove_revocation(tx, record.arn):
            if inherited is not None:
                raise CommandFailed(
                    inherited.sentence(record.arn), f"imagesmith image unrevoke {inherited.image_arn}"
                )
            raise CommandFailed(f"{record.arn} is not revoked")
        left = revocation_of(tx, record.arn)
    echo(f"{record.arn} is not revoked any more" if left is None else left.sentence(record.arn))


def _author() -> str:
    import getpass

    return getpass.getuser()


def _held(tx: Connection, settings: Settings, arns: Sequence[str]) -> list[Mapping[str, Any]]:
    """Where images are: their outputs, and for AMIs the host of their Region."""
    records = queries.get_many(tx, arns)
    return [
        {"arn": arn, "locations": list(_locations(settings, records[arn])) if arn in records else []}
        for arn in arns
    ]


def _locations(settings: Settings, record: Record) -> Iterator[str]:
    yield from outputs_of(record.document)
    for ami in (record.document.get("outputResources") or {}).get("amis") or ():
        host = settings.machine_host_for(ami.get("accountId", record.account), ami["region"])
        if host is not None:
            name = file_name(f"{ami['name']}-{ami['image']}", "qcow2")
            yield f"{host.address}:{host.directory.rstrip('/')}/{name}"


def _shown(item: lineage.Lineage, revoked: Mapping[str, str]) -> Mapping[str, str]:
    return {"arn": item.image_arn, "digest": item.digest, "revoked": revoked.get(item.image_arn, "")}


def _tree(
    record: Record,
    above: Sequence[lineage.Lineage],
    below: Sequence[tuple[int, lineage.Lineage]],
    revoked: Mapping[str, str],
    base: str,
) -> Iterator[str]:
    """The base first, each child below its parent."""

    def line(depth: int, text: str) -> str:
        why = "  REVOKED" if text in revoked else ""
        return f"{'  ' * depth}{text}{'  <--' if text == record.arn and len(above) + len(below) > 1 else ''}{why}"

    depth = 0
    if base:
        yield line(0, base)
        depth = 1
    for item in reversed(above):
        yield line(depth, item.image_arn)
        depth += 1
    for generation, item in below:
        yield line(depth - 1 + generation, item.image_arn)
    if not above:
        yield record.arn
    if record.arn in revoked:
        yield revoked[record.arn]
