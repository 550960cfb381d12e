"""`imagesmith image ancestry`, `revoke` and `unrevoke`: what images are built on, and what must not be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
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
    own_revocation,
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

    Parents are found by ARN, and by digest where a recipe names a registry; deleted images are marked. Reads the
    store, so no server needs to run.
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        family = _family(tx, _image_arn(tx, settings, image))
    if as_json:
        print_json(family.to_json())
    else:
        echo("\n".join(family.lines()))


@click.command()
@click.argument("image")
@click.option("--reason", required=True, help="Why; every refusal shows it.")
@data_dir_option
@json_option
def revoke(image: str, reason: str, data_dir: Path, as_json: bool) -> None:
    """Revoke an image and everything that is built on it: no run and no distribution may use them.

    \b
    IMAGE is an ARN, NAME (newest build), NAME/1.0.0 or NAME/1.0.0/3; one that was deleted by its ARN.
    Example:  imagesmith image revoke base/1.0.0/4 --reason 'leaked key in /etc/ssl' --data-dir ./data

    Lists what holds the image and its children. Nothing is removed there: that is yours to decide.
    """
    if not reason.strip() or len(reason) > _LONGEST or not reason.isprintable():
        raise click.BadParameter(f"a reason has 1 to {_LONGEST} printable characters", param_hint="--reason")
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        arn = _image_arn(tx, settings, image)
        put_revocation(tx, Revocation(arn, reason, _author(), datetime.now(UTC)))
        others = (other for level in lineage.holders(tx, arn) for other in level if other != arn)
        held = _held(tx, settings, [arn, *others])
    if as_json:
        print_json({"revoked": arn, "reason": reason, "images": held})
        return
    echo(f"{arn} is revoked; images of the same bytes or built on it: {len(held) - 1}")
    for item in held:
        echo(f"  {item['arn']}{'  deleted' if item['deleted'] else ''}")
        for location in item["locations"]:
            echo(f"    on {location}")


@click.command()
@click.argument("image")
@data_dir_option
def unrevoke(image: str, data_dir: Path) -> None:
    """Withdraw the revocation of an image; its children may be used again too.

    \b
    IMAGE is an ARN, NAME (newest build), NAME/1.0.0 or NAME/1.0.0/3; one that was deleted by its ARN.
    Example:  imagesmith image unrevoke base/1.0.0/4 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        arn = _image_arn(tx, settings, image)
        removed = remove_revocation(tx, arn)
        left = revocation_of(tx, arn)
        if not removed:
            if left is not None:
                raise CommandFailed(left.sentence(arn), f"imagesmith image unrevoke {left.image_arn}")
            raise CommandFailed(f"{arn} is not revoked")
    echo(f"{arn} is not revoked any more" if left is None else left.sentence(arn))


def _image_arn(tx: Connection, settings: Settings, reference: str) -> str:
    """The build of a reference, also one that was deleted, by its whole ARN. Raises CommandFailed."""
    if lineage.lineages(tx, [reference]) or own_revocation(tx, reference) is not None:
        return reference
    return stored_image(tx, settings, reference).arn


def _author() -> str:
    import getpass

    return getpass.getuser()


def _held(tx: Connection, settings: Settings, arns: Sequence[str]) -> list[Mapping[str, Any]]:
    """Where images are: their outputs, and for AMIs the host of their Region."""
    records = queries.get_many(tx, arns)
    return [
        {
            "arn": arn, "deleted": arn not in records,
            "locations": list(_locations(settings, records[arn])) if arn in records else [],
        }
        for arn in arns
    ]  # fmt: skip


def _locations(settings: Settings, record: Record) -> Iterator[str]:
    yield from outputs_of(record.document)
    for ami in (record.document.get("outputResources") or {}).get("amis") or ():
        host = settings.machine_host_for(ami.get("accountId", record.account), ami["region"])
        if host is not None:
            name = file_name(f"{ami['name']}-{ami['image']}", "qcow2")
            yield f"{host.address}:{host.directory.rstrip('/')}/{name}"


@dataclass(frozen=True)
class _Family:
    """What an image is built on, nearest first and with itself, and what is built on it, by generations."""

    arn: str
    above: Sequence[lineage.Lineage]
    below: Sequence[tuple[int, lineage.Lineage]]
    stored: Set[str]
    """Those of them that were not deleted."""
    revoked: Mapping[str, str]
    """Image -> the sentence of the revocation that holds for it."""

    @property
    def base(self) -> str:
        return self.above[-1].parent if self.above else ""

    def to_json(self) -> Mapping[str, Any]:
        digest = self.above[-1].parent_digest if self.above else ""
        return {
            "image": self.arn,
            "parents": [self._shown(item) for item in self.above[1:]],
            "base": {"reference": self.base, "digest": digest},
            "children": [{**self._shown(item), "generation": number} for number, item in self.below],
            "revoked": self.revoked.get(self.arn, ""),
        }

    def _shown(self, item: lineage.Lineage) -> Mapping[str, str | bool]:
        return {
            "arn": item.image_arn, "digest": item.digest, "deleted": item.image_arn not in self.stored,
            "revoked": self.revoked.get(item.image_arn, ""),
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """The base first, each child below its parent; last why the image is revoked."""
        depth = 0
        if self.base:
            yield self.base
            depth = 1
        parents = [item.image_arn for item in reversed(self.above)] or [self.arn]
        for number, arn in enumerate(parents, depth):
            yield self._line(number, arn)
        for generation, item in self.below:
            yield self._line(depth + len(parents) - 1 + generation, item.image_arn)
        if self.arn in self.revoked:
            yield self.revoked[self.arn]

    def _line(self, depth: int, arn: str) -> str:
        alone = len(self.above) + len(self.below) <= 1
        marks = (
            ("  <--", arn == self.arn and not alone),
            ("  deleted", arn not in self.stored),
            ("  REVOKED", arn in self.revoked),
        )
        return f"{'  ' * depth}{arn}{''.join(mark for mark, holds in marks if holds)}"


def _family(tx: Connection, arn: str) -> _Family:
    above, below = lineage.ancestors(tx, arn), lineage.descendants(tx, arn)
    arns = [arn, *(item.image_arn for item in above), *(item.image_arn for _, item in below)]
    revoked = {
        known: found.sentence(known) for known in arns if (found := revocation_of(tx, known)) is not None
    }  # fmt: skip
    return _Family(arn=arn, above=above, below=below, stored=queries.get_many(tx, arns).keys(), revoked=revoked)
