"""Opens the database of the journal for DBOS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pysqlite3
import sqlalchemy as sa

from imagesmith.engine.dbos_import import DBOSConfig
from imagesmith.store.database import SESSION_OPTIONS

_SCHEMA = "imagesmith_engine"
_queue, _status = sa.Column("queue_name", sa.Text), sa.Column("status", sa.Text)
_WORKFLOWS = sa.Table("workflow_status", sa.MetaData(), _queue, _status, schema=_SCHEMA)


def open_journal(url: str, config: DBOSConfig) -> sa.Engine:
    """The SQLAlchemy engine of a journal; DBOS's configuration is extended by its settings."""
    if url.startswith("sqlite"):
        engine = _sqlite_engine(url)
        config["system_database_url"] = url
        config["system_database_engine"] = engine
        return engine
    url = _with_options(url)
    config["system_database_url"] = url
    config["dbos_system_schema"] = _SCHEMA
    return sa.create_engine(url, pool_pre_ping=True, pool_size=1, max_overflow=4)


def waiting_queues(engine: sa.Engine, queues: Collection[str]) -> Callable[[], Iterable[str]]:
    """The queues that hold a waiting run; for PostgreSQL, where other processes enqueue as well."""
    without_transaction = engine.execution_options(isolation_level="AUTOCOMMIT")
    # one query for each queue, which may hold thousands of runs
    question = sa.union_all(
        *(
            sa.select(_queue).where(_queue == queue, _status == "ENQUEUED").limit(1).subquery().select()
            for queue in queues
        )
    )

    def find() -> Iterable[str]:
        with without_transaction.connect() as connection:
            return connection.scalars(question).all()

    return find


def _with_options(url: str) -> str:
    """Apply the settings of our own connections to the journal: a frozen process must not hold its locks."""
    parsed = sa.make_url(url)
    if "options" in parsed.query:
        return url
    return parsed.update_query_dict({"options": SESSION_OPTIONS}).render_as_string(hide_password=False)


def _sqlite_engine(url: str) -> sa.Engine:
    """On a new enough SQLite, with DBOS's own connection settings."""
    engine = sa.create_engine(url, module=pysqlite3, connect_args={"check_same_thread": False})

    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    sa.event.listen(engine, "connect", configure)
    return engine
