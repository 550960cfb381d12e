"""Lines of the audit log, each in the transaction of the change that it records, until a file has it durably."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.account_tables import audit_lines
from imagesmith.store.prepared import Prepared
from imagesmith.store.records import from_microseconds, microseconds

SCOPE: Final = "audit-lines"
"""The turn of removals."""
_PUT: Final = Prepared(
    sa.insert(audit_lines).values({name: sa.bindparam(name) for name in ("id", "log", "line", "time")})
)
_FORGET: Final = Prepared(sa.delete(audit_lines).where(audit_lines.c.id == sa.bindparam("gone")))


@dataclass(frozen=True, kw_only=True)
class AuditLine:
    """A line of a log."""

    id: str
    """That of the request."""
    log: str
    """Of which log: each server has its own."""
    time: datetime
    line: str
    """JSON, without the line break."""
    replaces: tuple[str, ...] = ()
    """Lines that their file has durably: they leave the database when this one enters it."""


def put_line(tx: Connection, line: AuditLine) -> None:
    """Store a line with the change that it records, and remove those that it replaces."""
    forget_lines(tx, line.replaces)
    _PUT.run(tx, {"id": line.id, "log": line.log, "line": line.line, "time": microseconds(line.time)})


def lines_of(tx: Connection, log: str) -> list[AuditLine]:
    """The lines of a log that may be in no file, oldest first."""
    table = audit_lines
    rows = tx.execute(sa.select(table).where(table.c.log == log).order_by(table.c.time, table.c.id))
    return [AuditLine(id=row.id, log=row.log, line=row.line, time=from_microseconds(row.time)) for row in rows]


def forget_lines(tx: Connection, ids: Sequence[str]) -> None:
    """Remove lines that are in their file."""
    for id in ids:
        _FORGET.run(tx, {"gone": id})
