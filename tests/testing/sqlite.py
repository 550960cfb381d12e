"""SQLite for tests."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from imagesmith.store.database import Database


def unsynced(database: Database) -> Database:
    """The database, whose commits reach the page cache and wait for no disk: tests kill processes, no machine."""

    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF").close()

    if database.is_sqlite:
        sa.event.listen(database.engine, "connect", configure)
    return database
