"""Prepared statements for every request, which on SQLite run directly on the driver.

SQLAlchemy's overhead for a short statement (find the compiled form, make a context, a cursor and a result) takes
several times as long as SQLite's execution, and a change of one resource needs a dozen statements. A prepared
statement is compiled once; only the driver and the column types (JSON) work at its execution. On PostgreSQL, where
every statement is a message to another process, it runs the usual way.

Values are always parameters; errors are SQLAlchemy's, as for any other statement.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from imagesmith.store.upsert import Statements
from imagesmith.values.json_text import json_text

_DIALECT: Final[Any] = sqlite.dialect(paramstyle="qmark")

Convert = Callable[[Any], Any]


class Prepared:
    """One statement with named parameters, or one for each dialect where they differ (store.upsert)."""

    def __init__(self, statement: Any) -> None:
        self._statements: Statements = statement if isinstance(statement, Mapping) else {"postgresql": statement}
        compiled = self._statements.get("sqlite", self._statements["postgresql"]).compile(dialect=_DIALECT)
        self._text = str(compiled)
        self._names: tuple[str, ...] = tuple(compiled.positiontup)
        kinds = [compiled.binds[name].type for name in self._names]
        self._given = _conversions([_binding(kind) for kind in kinds])
        columns = list(getattr(compiled.statement, "selected_columns", ()))
        row: Any = namedtuple("Row", [column.name for column in columns])  # type: ignore[misc]
        self._make: Callable[[Any], Any] = row._make
        self._found = _conversions([_reading(column.type) for column in columns])

    def first(self, tx: Connection, values: Mapping[str, Any]) -> Any:
        """The first row, with its columns as attributes; None without rows."""
        if tx.dialect.name != "sqlite":
            return tx.execute(self._statements[tx.dialect.name], values).first()
        row = self._execute(tx, values).fetchone()
        return None if row is None else self._convert(row)

    def rows(self, tx: Connection, values: Mapping[str, Any]) -> list[Any]:
        """All rows, with their columns as attributes."""
        if tx.dialect.name != "sqlite":
            return list(tx.execute(self._statements[tx.dialect.name], values))
        return [self._convert(row) for row in self._execute(tx, values).fetchall()]

    def run(self, tx: Connection, values: Mapping[str, Any]) -> int:
        """Write; returns the number of rows. Raises sqlalchemy.exc.IntegrityError."""
        if tx.dialect.name != "sqlite":
            return int(tx.execute(self._statements[tx.dialect.name], values).rowcount)
        return int(self._execute(tx, values).rowcount)

    def _execute(self, tx: Connection, values: Mapping[str, Any]) -> Any:
        given = [values[name] for name in self._names]
        for index, convert in self._given:
            given[index] = convert(given[index])
        return on_driver(tx, self._text, given)

    def _convert(self, row: tuple[Any, ...]) -> Any:
        values = list(row)
        for index, convert in self._found:
            values[index] = convert(values[index])
        return self._make(values)


def on_driver(tx: Connection, text: str, given: Sequence[Any] = ()) -> Any:
    """Run a statement of SQLite with its values in order; returns the driver's cursor."""
    try:
        return driver_of(tx).execute(text, given)
    except tx.dialect.loaded_dbapi.Error as error:
        base = tx.dialect.loaded_dbapi.Error
        raise sa.exc.DBAPIError.instance(text, given, error, base, dialect=tx.dialect) from error


def driver_of(tx: Connection) -> Any:
    """The driver's own connection: on SQLite its execute() takes a text, and values in order."""
    return tx.connection.dbapi_connection


def _implementation(kind: Any) -> Any:
    return kind.dialect_impl(_DIALECT)


def _binding(kind: Any) -> Convert | None:
    if isinstance(kind, sa.JSON):
        return json_text
    convert: Convert | None = _implementation(kind).bind_processor(_DIALECT)
    return convert


def _reading(kind: Any) -> Convert | None:
    if isinstance(kind, sa.JSON):
        return json.loads
    convert: Convert | None = _implementation(kind).result_processor(_DIALECT, None)
    return convert


def _conversions(converts: Sequence[Convert | None]) -> list[tuple[int, Convert]]:
    return [(index, convert) for index, convert in enumerate(converts) if convert is not None]
