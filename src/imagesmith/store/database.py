"""Opens the database and serialises its writers.

SQLite (WAL, one file in the data directory) or PostgreSQL. A unit of work is one short transaction:

    with store.write(scope) as tx:   SAVEPOINT in a group (groups.py) / BEGIN + advisory lock of the scope
        ...                          every check and every write of one change
                                     COMMIT, or ROLLBACK after an exception

Invariant: writers of one scope (account and region) run one after another, so a check inside a unit of work still
holds when it commits. A unit of work never spans a subprocess or a network call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from imagesmith.store import groups
from imagesmith.store.groups import GroupWriter, TurnNotCome
from imagesmith.store.idle_readers import IdleReaders
from imagesmith.store.outage import StoreAway as StoreAway
from imagesmith.store.outage import StoreBusy as StoreBusy
from imagesmith.store.outage import StoreUnavailable as StoreUnavailable
from imagesmith.store.outage import outage
from imagesmith.store.patience import Patience, Value, persistently
from imagesmith.store.prepared import on_driver
from imagesmith.values.names import sha256_hex

_BUSY_SECONDS = 30
_IDLE_SECONDS = 15
SESSION_OPTIONS = (
    f"-c idle_in_transaction_session_timeout={_IDLE_SECONDS}s "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
"""End the transaction, and so the locks, of a process that froze in it or whose host is gone."""


Guard = Callable[[Connection], None]
"""Check in the transaction of a write, before the write; raises to refuse the write."""


def make_engine(url: str) -> Engine:
    """An SQLAlchemy engine with this project's settings, also for the journal (on SQLite 3.42 or newer)."""
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
    # this module begins transactions (BEGIN IMMEDIATE), never the driver
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Database:
    """The SQLAlchemy engine, with transactions that read and transactions that write."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._file = Path(self.engine.url.database or "") if self.is_sqlite else None
        # SQLite allows one writer; waiting for a lock is fair and cheap, polling on "busy" is neither
        self._writer = GroupWriter(self._begin_write)
        self._readers = IdleReaders(self.engine)
        self._guard: Guard | None = None
        self._patience: Patience | None = None

    def guarded(self, guard: Guard) -> Database:
        """This database with a check before every write. Only for databases that several processes share."""
        other = copy.copy(self)
        other._guard = guard
        return other

    def patient(self, patience: Patience) -> Database:
        """This database for callers that wait during an outage: it raises StoreAway instead of StoreUnavailable."""
        other = copy.copy(self)
        other._patience = patience
        return other

    def persist(self, action: Callable[[], Value]) -> Value:
        """The result of `action`; with patience it is retried during an outage of the database."""
        if self._patience is None:
            return action()
        return persistently(action, self._patience)

    def query(self, query: Callable[[Connection], Value]) -> Value:
        """The result of a query, in a transaction of its own that may be repeated."""

        def read() -> Value:
            with self.read() as tx:
                return query(tx)

        return self.persist(read)

    def change(self, scope: str, action: Callable[[Connection], Value]) -> Value:
        """The result of a change, in a transaction of its own that may be repeated."""

        def write() -> Value:
            with self.write(scope) as tx:
                return action(tx)

        return self.persist(write)

    def write(self, scope: str = "", *, patience: float = _BUSY_SECONDS) -> AbstractContextManager[Connection]:
        """One transaction that writes; writers of one `scope` are serial.

        Raises StoreUnavailable, and StoreBusy when another writer holds the scope for `patience` seconds.
        """
        if self._patience is None:
            return self._write(scope, patience)
        return self._patiently(lambda: self._write(scope, patience), self._patience)

    @contextmanager
    def _patiently(
        self, begin: Callable[[], AbstractContextManager[Connection]], patience: Patience
    ) -> Iterator[Connection]:
        """A transaction that begins as soon as possible."""
        try:
            with ExitStack() as stack:
                connection = persistently(lambda: stack.enter_context(begin()), patience)
                patience.over()
                yield connection
        except StoreUnavailable as error:
            raise StoreAway(str(error)) from error

    @contextmanager
    def _write(self, scope: str, patience: float) -> Iterator[Connection]:
        if self.is_sqlite:
            with self._convert_outages(patience), self._writer.write(patience) as connection:
                yield connection
            return
        with self._transaction(patience) as connection:
            _take_turn(connection, scope, patience)
            if self._guard is not None:
                self._guard(connection)
            yield connection

    def begin_group(self, *, patience: float = _BUSY_SECONDS) -> CommonCommit:
        """On SQLite: begin a group of changes that share one COMMIT. Raises StoreBusy and StoreUnavailable."""
        if not self.is_sqlite:
            raise RuntimeError("writers of PostgreSQL do not wait for each other's commits")
        with self._convert_outages(patience):
            return CommonCommit(self._writer.begin_group(patience), partial(self._convert_outages, patience))

    def read(self) -> AbstractContextManager[Connection]:
        """One transaction that only reads: on SQLite it sees one moment of the database."""
        return self._read() if self._patience is None else self._patiently(self._read, self._patience)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if not self.is_sqlite:
            with self._transaction() as connection:
                yield connection
            return
        with self._convert_outages(_BUSY_SECONDS):
            connection = self._readers.take()
            try:
                _wait_at_most(connection, _BUSY_SECONDS)
                on_driver(connection, "BEGIN")
                yield connection
            finally:
                self._readers.give_back(connection)

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
        """A transaction that writes, on PostgreSQL."""
        with self._convert_outages(patience), self.engine.connect() as connection:
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def _convert_outages(self, patience: float) -> Iterator[None]:
        """Turn errors of an outage into StoreUnavailable; other errors pass unchanged."""
        try:
            yield
        except TurnNotCome as late:
            raise StoreBusy(f"the database stayed locked by another writer for {patience:g} seconds") from late
        except SQLAlchemyError as error:
            unavailable = outage(error, patience=patience, file=self._file)
            if unavailable is None:
                raise
            raise unavailable from error

    def close(self) -> None:
        self._readers.close()
        self.engine.dispose()


class CommonCommit:
    """Changes that share one COMMIT and are not done before it. end() must follow, in any thread."""

    def __init__(
        self, group: groups.GroupedChanges, convert_outages: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._group = group
        self._convert_outages = convert_outages

    def joined(self) -> AbstractContextManager[None]:
        """Within the context, the writes of this thread belong to the group."""
        return self._group.joined()

    def end(self) -> None:
        """Commit. Raises StoreUnavailable: then none of the changes may be reported as done."""
        with self._convert_outages():
            self._group.end()


def _wait_at_most(connection: Connection, patience: float) -> None:
    """Set how long statements on SQLite wait for another process that locks the file."""
    # stored on the pooled connection, so that the usual case costs nothing
    if connection.info.get("patience") != patience:
        on_driver(connection, f"PRAGMA busy_timeout={int(patience * 1000)}")
        connection.info["patience"] = patience


def _take_turn(connection: Connection, scope: str, patience: float) -> None:
    """Wait for other writers of a scope on PostgreSQL; the limit is set for this transaction only."""
    key = int(sha256_hex(scope)[:15], 16)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(patience * 1000)}")
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
