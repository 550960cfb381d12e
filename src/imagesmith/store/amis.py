"""The AMI catalog: AMIs of accounts and regions, each of which names a disk; and their launch templates.

An id is derived from image, account, region and name, so registering an AMI again after a crash returns the same
entry. A name belongs to one AMI of its account and region.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.tables import amis, launch_templates
from imagesmith.store.upsert import for_dialect, upserts
from imagesmith.values.names import sha256_hex

_UPSERT_AMI = upserts(amis)
_UPSERT_TEMPLATE = upserts(launch_templates)
_ID_DIGITS: Final = 17
DISABLED_AMI: Final = "disabled"
"""The member `state` of the document of an AMI that a lifecycle action disabled."""
_SNAPSHOT: Final = re.compile(rf"snap-([0-9a-f]{{{_ID_DIGITS}}})")


class AmiNameTaken(ValueError):
    """Another AMI of the account and region has the name."""


@dataclass(frozen=True)
class Ami:
    """One entry. `document` holds members without a column: description, tags, launchPermission, entry, origin."""

    ami_id: str
    account: str
    region: str
    name: str
    digest: str
    created: datetime
    image_arn: str = ""
    """The image whose output it is; empty for a base that was added."""
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def snapshot_id(self) -> str:
        """The id of the disk for RegisterImage: the same for every AMI of the disk."""
        return f"snap-{self.digest.removeprefix('sha256:')[:_ID_DIGITS]}"


def ami_id_for(account: str, region: str, name: str, *, source: str) -> str:
    """The id of an entry; `source` is an image ARN or a digest."""
    return f"ami-{sha256_hex(chr(0).join((account, region, name, source)))[:17]}"


def put_ami(tx: Connection, ami: Ami) -> None:
    """Register an AMI, or write the same one again. Raises AmiNameTaken."""
    holder = tx.execute(
        sa.select(amis.c.ami_id).where(
            amis.c.account == ami.account, amis.c.region == ami.region, amis.c.name == ami.name
        )
    ).scalar()
    if holder is not None and holder != ami.ami_id:
        raise AmiNameTaken(f"the name '{ami.name}' is used by {holder} in account {ami.account}, {ami.region}")
    row = {**ami.__dict__, "created": microseconds(ami.created), "document": dict(ami.document)}
    tx.execute(for_dialect(tx, _UPSERT_AMI), row)


def get_ami(tx: Connection, ami_id: str) -> Ami | None:
    row = tx.execute(sa.select(amis).where(amis.c.ami_id == ami_id)).first()
    return None if row is None else _ami(row)


def list_amis(tx: Connection, *, account: str = "", region: str = "", image_arn: str = "") -> list[Ami]:
    """Entries, newest first; every non-empty filter must match."""
    query = sa.select(amis)
    for column, value in ((amis.c.account, account), (amis.c.region, region), (amis.c.image_arn, image_arn)):
        if value:
            query = query.where(column == value)
    return [_ami(row) for row in tx.execute(query.order_by(amis.c.created.desc(), amis.c.ami_id))]


def amis_of_digest(tx: Connection, digest: str) -> list[Ami]:
    """The entries of a disk, newest first."""
    rows = tx.execute(sa.select(amis).where(amis.c.digest == digest).order_by(amis.c.created.desc()))
    return [_ami(row) for row in rows]


def amis_of_snapshot(tx: Connection, snapshot_id: str) -> list[Ami]:
    """The entries whose disk has a snapshot id, newest first; none for a text that is not a snapshot id."""
    found = _SNAPSHOT.fullmatch(snapshot_id)
    if found is None:
        return []
    query = sa.select(amis).where(amis.c.digest.startswith(f"sha256:{found[1]}"))
    return [_ami(row) for row in tx.execute(query.order_by(amis.c.created.desc(), amis.c.ami_id))]


def note_launch(tx: Connection, ami_id: str, moment: str) -> None:
    """Record the time of a launch, ISO 8601: lifecycle rules may spare what was used lately."""
    ami = get_ami(tx, ami_id)
    if ami is not None:
        put_ami(tx, replace(ami, document={**ami.document, "lastLaunched": moment}))


def remove_ami(tx: Connection, ami_id: str) -> None:
    tx.execute(sa.delete(amis).where(amis.c.ami_id == ami_id))


def digests_in_use(tx: Connection) -> set[str]:
    return {str(row[0]) for row in tx.execute(sa.select(amis.c.digest).distinct())}


def may_launch(ami: Ami, account: str) -> bool:
    """Whether an account owns an AMI or has permission to launch it; nobody may launch a disabled one."""
    if ami.document.get("state") == DISABLED_AMI:
        return False
    permission = ami.document.get("launchPermission", {})
    return (
        ami.account == account
        or account in permission.get("userIds", ())
        or "all" in permission.get("userGroups", ())
    )


def put_launch_template(
    tx: Connection, account: str, region: str, template_id: str, *, ami_id: str, default: bool
) -> int:
    """Record a new version of a launch template for an AMI; returns its number, the same for the same AMI."""
    table = launch_templates
    mine = sa.and_(table.c.account == account, table.c.region == region, table.c.template_id == template_id)
    rows: Sequence[Any] = tx.execute(sa.select(table).where(mine).order_by(table.c.version)).all()
    number = next((int(row.version) for row in rows if row.ami_id == ami_id), len(rows) + 1)
    if default:
        tx.execute(sa.update(table).where(mine).values(is_default=0))
    row = {"account": account, "region": region, "template_id": template_id, "version": number}
    tx.execute(for_dialect(tx, _UPSERT_TEMPLATE), {**row, "is_default": int(default), "ami_id": ami_id})
    return number


def _ami(row: Any) -> Ami:
    return Ami(
        ami_id=row.ami_id,
        account=row.account,
        region=row.region,
        name=row.name,
        digest=row.digest,
        created=from_microseconds(row.created),
        image_arn=row.image_arn,
        document=row.document,
    )
