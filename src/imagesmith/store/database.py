"""Opening the database and keeping writers in line.

SQLite (WAL, one file in the data directory) or PostgreSQL. A unit of work is one short transaction:

    with store.write(scope) as tx:   SAVEPOINT in a group (groups.py) / BEGIN + advisory lock of the scope
        ...                          every check and every write of one change
                                     COMMIT, or ROLLBACK when anything was raised

Invariant: writers of one scope (account and region) run one after another, so a check made inside a unit of
work still holds when it commits. No unit of work spans a subprocess or a network call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InternalError, OperationalError

from imagesmith.store import groups
from imagesmith.store.groups import GroupWriter, TurnNotCome
from imagesmith.store.prepared import on_driver
from imagesmith.values.names import sha256_hex

_BUSY_SECONDS = 30
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code
_IDLE_SECONDS = 15
_IDLE_TOO_LONG = "25P03"  # PostgreSQL's code
SESSION_OPTIONS = (
    f"-c idle_in_transaction_session_timeout={_IDLE_SECONDS}s "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
"""A process that is frozen, or whose host is gone, in the middle of a transaction holds its locks no longer."""


Guard = Callable[[Connection], None]
"""Looks at something in the transaction of a write, before it, and raises when the write must not be."""


class StoreUnavailable(RuntimeError):
    """The database cannot be reached or does not answer in time."""


class StoreBusy(StoreUnavailable):
    """Another writer of the scope did not end in time."""


def make_engine(url: str) -> Engine:
    """An engine with the settings this project needs, also for the journal (its SQLite must be 3.42 or newer)."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        given = {} if "options" in parsed.query else {"options": SESSION_OPTIONS}
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=20, max_overflow=20, connect_args=given)
    import pysqlite3

    engine = sa.create_engine(
        parsed,
        module=pysqlite3,
        pool_size=20,
        max_overflow=20,
        connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
    )
    sa.event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # transactions are begun by us (BEGIN IMMEDIATE), never by the driver
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Database:
    """The engine plus the two ways to use it."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite admits one writer; waiting on a lock is fair and cheap, waiting on "busy" is neither
        self._writer = GroupWriter(self._begin_write)
        self._guard: Guard | None = None

    def guarded(self, guard: Guard) -> Database:
        """This database, whose every write begins with a check. Only for databases that several processes share."""
        other = copy.copy(self)
        other._guard = guard
        return other

    @contextmanager
    def write(self, scope: str = "", *, patience: float = _BUSY_SECONDS) -> Iterator[Connection]:
        """One transaction that writes; writers of one `scope` are serial.

        Raises StoreUnavailable, and StoreBusy when the turn does not come within `patience` seconds.
        """
        if self.is_sqlite:
            with _telling_failures(patience), self._writer.write(patience) as connection:
                yield connection
            return
        with self._transaction(patience) as connection:
            _take_turn(connection, scope, patience)
            if self._guard is not None:
                self._guard(connection)
            yield connection

    def together(self, *, patience: float = _BUSY_SECONDS) -> Together:
        """On SQLite: begin changes that share one COMMIT. Raises StoreBusy and StoreUnavailable."""
        if not self.is_sqlite:
            raise RuntimeError("writers of PostgreSQL do not wait for each other's commits")
        with _telling_failures(patience):
            return Together(self._writer.together(patience), patience)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: everything it sees is of one moment on SQLite."""
        if not self.is_sqlite:
            with self._transaction() as connection:
                yield connection
            return
        with _telling_failures(_BUSY_SECONDS), self.engine.connect() as connection:
            _wait_at_most(connection, _BUSY_SECONDS)
            # it ends when the connection goes back to its pool, which undoes what is open
            on_driver(connection, "BEGIN")
            yield connection

    def _begin_write(self, patience: float) -> Connection:
        connection = self.engine.connect()
        try:
            _wait_at_most(connection, patience)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _transaction(self, patience: float = _BUSY_SECONDS) -> Iterator[Connection]:
        """On PostgreSQL."""
        try:
            connection = self.engine.connect()
        except OperationalError as error:
            raise StoreUnavailable(str(error.orig)) from error
        with connection:
            try:
                yield connection
                connection.commit()
            except OperationalError as error:
                connection.rollback()
                raise _failure(error, patience) from error
            except InternalError as error:
                connection.rollback()
                if getattr(error.orig, "sqlstate", "") != _IDLE_TOO_LONG:
                    raise
                raise StoreUnavailable(str(error.orig)) from error
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        self.engine.dispose()


class Together:
    """Changes that share one COMMIT and are done only then. end() must come, from any thread."""

    def __init__(self, group: groups.Together, patience: float) -> None:
        self._group = group
        self._patience = patience

    def joined(self) -> AbstractContextManager[None]:
        """What this thread writes until the end of the context is one of the changes."""
        return self._group.joined()

    def end(self) -> None:
        """Commit. Raises StoreUnavailable: then nothing of it is to be reported done."""
        with _telling_failures(self._patience):
            self._group.end()


@contextmanager
def _telling_failures(patience: float) -> Iterator[None]:
    try:
        yield
    except TurnNotCome as late:
        raise StoreBusy(f"the database stayed locked by another writer for {patience:g} seconds") from late
    except OperationalError as error:
        raise _failure(error, patience) from error


def _wait_at_most(connection: Connection, patience: float) -> None:
    """How long a statement on SQLite waits for another process that holds the file."""
    # remembered on the pooled connection, so that the usual case costs nothing
    if connection.info.get("patience") != patience:
        on_driver(connection, f"PRAGMA busy_timeout={int(patience * 1000)}")
        connection.info["patience"] = patience


def _take_turn(connection: Connection, scope: str, patience: float) -> None:
    """Wait for the other writers of a scope on PostgreSQL; the limit holds for this transaction only."""
    key = int(sha256_hex(scope)[:15], 16)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(patience * 1000)}")
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _failure(error: OperationalError, patience: float) -> StoreUnavailable:
    """A lock that was not had in time, or a database that cannot be used."""
    text = str(error.orig)
    if getattr(error.orig, "sqlstate", "") == _LOCK_NOT_AVAILABLE or "database is locked" in text:
        return StoreBusy(f"another writer did not end within {patience:g} seconds: {text}")
    return StoreUnavailable(text)
