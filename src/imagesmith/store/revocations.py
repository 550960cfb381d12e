"""Revoked images: they and everything built on them must not be used. A revocation is inherited, never copied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.ancestry import ancestors, images_of_digest
from imagesmith.store.ancestry_tables import revocations
from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.upsert import for_dialect, upserts

_PUT = upserts(revocations)


@dataclass(frozen=True)
class Revocation:
    """An image that was revoked: its children inherit this."""

    image_arn: str
    reason: str
    author: str
    revoked: datetime

    def sentence(self, about: str) -> str:
        """`... is revoked: REASON`, and for a child the image from which it inherits that."""
        inherited = "" if about == self.image_arn else f" with {self.image_arn}, which it is built on"
        return f"{about} is revoked{inherited}: {self.reason}"


def put_revocation(tx: Connection, item: Revocation) -> None:
    values = {**vars(item), "revoked": microseconds(item.revoked)}
    tx.execute(for_dialect(tx, _PUT), values)


def remove_revocation(tx: Connection, image_arn: str) -> bool:
    """Returns False for an image that is not revoked itself."""
    return tx.execute(sa.delete(revocations).where(revocations.c.image_arn == image_arn)).rowcount > 0


def own_revocation(tx: Connection, image_arn: str) -> Revocation | None:
    row = tx.execute(sa.select(revocations).where(revocations.c.image_arn == image_arn)).first()
    if row is None:
        return None
    return Revocation(row.image_arn, row.reason, row.author, from_microseconds(row.revoked))


def revocation_of(tx: Connection, image_arn: str) -> Revocation | None:
    """The revocation that holds for an image: its own, that of the same bytes, or that of the nearest parent."""
    if tx.scalar(sa.select(sa.func.count()).select_from(revocations)) == 0:
        return None
    found = own_revocation(tx, image_arn)
    for item in () if found is not None else ancestors(tx, image_arn):
        same = images_of_digest(tx, item.digest) if item.digest else []
        for arn in (item.image_arn, *same):
            found = found or own_revocation(tx, arn)
        if found is not None:
            break
    return found


def revocation_of_digest(tx: Connection, digest: str) -> Revocation | None:
    """The revocation that holds for an artifact, by its digest alone: a registry names no image."""
    for arn in images_of_digest(tx, digest) if digest else ():
        found = revocation_of(tx, arn)
        if found is not None:
            return found
    return None
