"""INSERT ... ON CONFLICT: both databases have it, SQLAlchemy spells it once for each.

Statements that run often are made once, here and in the modules of queries: building one takes longer than running
it, so values come in as parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

Statements = Mapping[str, Any]
"""Dialect name -> statement."""

_DIALECTS: Final[tuple[tuple[str, Any], ...]] = (("sqlite", sqlite), ("postgresql", postgresql))


def upserts(table: sa.Table) -> Statements:
    """Insert a row, or write its other columns over the row with the same primary key."""
    made: dict[str, Any] = {}
    for name, dialect in _DIALECTS:
        statement = dialect.insert(table)
        others = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
        made[name] = statement.on_conflict_do_update(
            index_elements=[column.name for column in table.primary_key], set_=others
        )
    return MappingProxyType(made)


def inserts_if_absent(table: sa.Table) -> Statements:
    """Insert a row unless its primary key is taken."""
    return MappingProxyType({name: dialect.insert(table).on_conflict_do_nothing() for name, dialect in _DIALECTS})


def counting(table: sa.Table) -> Statements:
    """Add one to `value` of the row `key`, or insert it with the value given; returns the value."""
    made: dict[str, Any] = {}
    for name, dialect in _DIALECTS:
        statement = dialect.insert(table).on_conflict_do_update(
            index_elements=["key"], set_={"value": table.c.value + 1}
        )
        made[name] = statement.returning(table.c.value)
    return MappingProxyType(made)


def for_dialect(tx: Connection, statements: Statements) -> Any:
    return statements[tx.dialect.name]
