"""Verdicts about vulnerabilities, as OpenVEX states them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.upsert import upserting
from imagesmith.store.vex_tables import vex_statements
from imagesmith.values.chunks import in_chunks

_PUT: Final = upserting(vex_statements, latest_by="stated")
_MOST_VALUES: Final = 500
"""Values in one statement."""


class VexStatus(StrEnum):
    """Whether a product is affected; the words of OpenVEX."""

    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"
    FIXED = "fixed"
    UNDER_INVESTIGATION = "under_investigation"


@dataclass(frozen=True, kw_only=True)
class VexStatement:
    """One statement. `product`: an image ARN with or without version and build, a package-url, or `*`, all images.

    `package` is the package-url of a part of the product; empty: all packages that the product itself has.
    """

    id: str
    vulnerability: str
    product: str
    package: str = ""
    status: VexStatus
    justification: str = ""
    impact: str = ""
    action: str = ""
    author: str
    stated: datetime

    @property
    def settles(self) -> bool:
        """Whether a finding needs no more work."""
        return self.status in (VexStatus.NOT_AFFECTED, VexStatus.FIXED)

    @property
    def reason(self) -> str:
        """`not_affected: vulnerable_code_not_present (ann)`."""
        why = self.justification or self.impact or self.action
        return f"{self.status}{f': {why}' if why else ''} ({self.author})"


def put_statements(tx: Connection, account: str, region: str, items: Sequence[VexStatement]) -> int:
    """Store statements; returns how many were left out, because a later one with the same id holds.

    Of several with one id the one that was stated last holds, in whatever order they arrive; of several of one time
    the last of `items`.
    """
    latest: dict[str, VexStatement] = {}
    for item in items:
        earlier = latest.get(item.id)
        if earlier is None or item.stated >= earlier.stated:
            latest[item.id] = item
    rows = [
        {**vars(item), "account": account, "region": region, "stated": microseconds(item.stated)}
        for item in latest.values()
    ]
    _PUT.write(tx, rows)
    return len(items) - len(latest) + _overtaken(tx, account, region, latest)


def _overtaken(tx: Connection, account: str, region: str, items: Mapping[str, VexStatement]) -> int:
    """How many of the statements are older than the one that is stored under their id."""
    table, count = vex_statements, 0
    query = sa.select(table.c.id, table.c.stated).where(table.c.account == account, table.c.region == region)
    for chunk in in_chunks(items, _MOST_VALUES):
        rows = tx.execute(query.where(table.c.id.in_(chunk)))
        count += sum(row.stated > microseconds(items[row.id].stated) for row in rows)
    return count


def statements(tx: Connection, account: str, region: str, names: Sequence[str] | None = None) -> list[VexStatement]:
    """The statements of an account and Region, oldest first: about these vulnerabilities; None: all."""
    table = vex_statements
    query = sa.select(table).where(table.c.account == account, table.c.region == region)
    if names is None:
        rows = list(tx.execute(query))
    else:
        chunks = in_chunks(sorted(set(names)), _MOST_VALUES)
        rows = [row for chunk in chunks for row in tx.execute(query.where(table.c.vulnerability.in_(chunk)))]
    return [_statement(row) for row in sorted(rows, key=lambda row: (row.stated, row.id))]


def remove_statement(tx: Connection, account: str, region: str, id: str) -> bool:
    """Returns False for an unknown id."""
    table = vex_statements
    wanted = (table.c.account == account, table.c.region == region, table.c.id == id)
    return tx.execute(sa.delete(table).where(*wanted)).rowcount > 0


def _statement(row: Any) -> VexStatement:
    return VexStatement(
        id=row.id, vulnerability=row.vulnerability, product=row.product, package=row.package,
        status=VexStatus(row.status), justification=row.justification, impact=row.impact, action=row.action,
        author=row.author, stated=from_microseconds(row.stated),
    )  # fmt: skip
