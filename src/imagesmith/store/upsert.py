"""INSERT ... ON CONFLICT for both databases, which SQLAlchemy spells separately for each.

Statements that run often are built once, here and in the modules of queries: building a statement takes longer than
running it, so values are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from imagesmith.values.json_text import json_text

Statements = Mapping[str, Any]
"""Dialect name -> statement."""

_POSTGRESQL: Final[Any] = postgresql.dialect()  # type: ignore[no-untyped-call]
_DIALECTS: Final[tuple[tuple[str, Any], ...]] = (("sqlite", sqlite), ("postgresql", postgresql))


def upserts(table: sa.Table, latest_by: str = "") -> Statements:
    """Insert a row, or update the other columns of the row with the same primary key.

    `latest_by`: a column; a row with a greater value in it stays as it is.
    """
    return MappingProxyType({name: _upsert(dialect, table, latest_by) for name, dialect in _DIALECTS})


def inserts_if_absent(table: sa.Table) -> Statements:
    """Insert a row unless its primary key is taken."""
    return MappingProxyType({name: dialect.insert(table).on_conflict_do_nothing() for name, dialect in _DIALECTS})


def counting(table: sa.Table) -> Statements:
    """Add one to `value` of the row `key`, or insert the row with a given value; returns the value."""
    return MappingProxyType(
        {
            name: dialect.insert(table)
            .on_conflict_do_update(index_elements=["key"], set_={"value": table.c.value + 1})
            .returning(table.c.value)
            for name, dialect in _DIALECTS
        }
    )


def _upsert(dialect: Any, table: sa.Table, latest_by: str) -> Any:
    statement = dialect.insert(table)
    others = {column.key: statement.excluded[column.key] for column in table.c if not column.primary_key}
    keys = [column.name for column in table.primary_key]
    where = statement.excluded[latest_by] >= table.c[latest_by] if latest_by else None
    return statement.on_conflict_do_update(index_elements=keys, set_=others, where=where)


class Rows:
    """Inserts many rows of a table; `conflict` is the clause for primary keys that are taken.

    PostgreSQL gets them as one JSON document: a statement for each row would be a message for each row.
    """

    def __init__(self, table: sa.Table, statements: Statements, *, conflict: str = "") -> None:
        names = ", ".join(column.name for column in table.c)
        types = ", ".join(f"{column.name} {column.type.compile(_POSTGRESQL)}" for column in table.c)
        self._one = statements
        self._many = sa.text(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM "  # noqa: S608 (names of our own tables)
            f"json_to_recordset(CAST(:rows AS json)) AS given({types}) {conflict}"
        )

    def write(self, tx: Connection, values: Sequence[Mapping[str, Any]]) -> None:
        """Insert the rows. Raises sqlalchemy.exc.IntegrityError."""
        if not values:
            return
        if tx.dialect.name == "postgresql" and len(values) > 1:
            tx.execute(self._many, {"rows": json_text(values)})
            return
        tx.execute(for_dialect(tx, self._one), values)


def inserting(table: sa.Table) -> Rows:
    statement = sa.insert(table)
    return Rows(table, {name: statement for name, _ in _DIALECTS})


def inserting_if_absent(table: sa.Table) -> Rows:
    return Rows(table, inserts_if_absent(table), conflict="ON CONFLICT DO NOTHING")


def upserting(table: sa.Table, *, latest_by: str = "") -> Rows:
    """Writes rows by upserts; the `values` of a call must not repeat a primary key. `latest_by`: see upserts()."""
    keys = ", ".join(column.name for column in table.primary_key)
    others = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    where = f" WHERE excluded.{latest_by} >= {table.name}.{latest_by}" if latest_by else ""
    return Rows(table, upserts(table, latest_by), conflict=f"ON CONFLICT ({keys}) DO UPDATE SET {others}{where}")


def for_dialect(tx: Connection, statements: Statements) -> Any:
    return statements[tx.dialect.name]
