"""Revoked images: they and everything built on them must not be used. A revocation is inherited, never copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.ancestry import images_of_digest, sources
from imagesmith.store.ancestry_tables import revocations
from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.upsert import for_dialect, upserts
from imagesmith.values.chunks import in_chunks

_PUT = upserts(revocations)
_MOST_VALUES = 500


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
    return _first(tx, [image_arn])


def revocation_of(tx: Connection, image_arn: str) -> Revocation | None:
    """The revocation that holds for an image: its own, that of the same bytes, or that of the nearest parent.

    A deleted image still revokes what holds its bytes.
    """
    if tx.scalar(sa.select(sa.func.count()).select_from(revocations)) == 0:
        return None
    found = own_revocation(tx, image_arn)
    for arns in () if found is not None else sources(tx, image_arn):
        found = _first(tx, arns)
        if found is not None:
            break
    return found


def revocation_of_digest(tx: Connection, digest: str) -> Revocation | None:
    """The revocation that holds for an artifact, by its digest alone: a registry names no image."""
    same = images_of_digest(tx, digest) if digest else []
    # any of them leads to all others
    return revocation_of(tx, same[0]) if same else None


def _first(tx: Connection, arns: Sequence[str]) -> Revocation | None:
    for chunk in in_chunks(arns, _MOST_VALUES):
        wanted = sa.select(revocations).where(revocations.c.image_arn.in_(chunk))
        row = tx.execute(wanted.order_by(revocations.c.image_arn).limit(1)).first()
        if row is not None:
            return Revocation(row.image_arn, row.reason, row.author, from_microseconds(row.revoked))
    return None
