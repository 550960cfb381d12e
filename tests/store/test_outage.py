"""What counts as an outage of the database, asked of real ones, and how a view with patience outlasts it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from imagesmith.store.database import Database
from imagesmith.store.outage import (
    StoreAway,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreUnavailable,
    is_outage,
)
from imagesmith.store.patience import CountOnce, persistent
from testing.postgresql import new_postgresql_database
from testing.small_disk import fill, small_disk_at


class Stopped(BaseException):
    """There is nothing to wait for any more."""


class Waits:
    """Patience that calls something at every wait, and gives up after some."""

    def __init__(self, action: Callable[[], object] = lambda: None, most: int = 50) -> None:
        self.errors: list[BaseException] = []
        self.answered = 0
        self._action = action
        self._most = most

    def wait(self, error: BaseException) -> None:
        self.errors.append(error)
        if len(self.errors) > self._most:
            raise Stopped
        self._action()

    def over(self) -> None:
        self.answered += 1


@pytest.fixture
def on_postgresql(postgresql: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(new_postgresql_database(postgresql))
    with database.write() as tx:
        tx.execute(sa.text("CREATE TABLE t (n integer PRIMARY KEY)"))
        tx.execute(sa.text("INSERT INTO t VALUES (1), (2)"))
    yield database
    database.close()


@contextmanager
def driver(database: Database) -> Iterator[psycopg.Connection]:
    """A connection beside those of the database."""
    url = database.engine.url
    with psycopg.connect(
        host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True
    ) as connection:
        yield connection


_END = "SELECT pg_terminate_backend(pg_backend_pid())"
_STATEMENTS: dict[str, tuple[list[str], type[StoreUnavailable] | None]] = {
    "admin shutdown 57P01": ([_END], StoreUnavailable),
    "a statement after the connection broke": ([_END, "SELECT 1"], StoreUnavailable),
    "a lock that is not had 55P03": (["LOCK TABLE t NOWAIT"], StoreBusy),
    "a statement that takes too long 57014": (
        ["SET LOCAL statement_timeout = 10", "SELECT pg_sleep(5)"], StoreUnavailable,
    ),
    "a server that is a standby 25006": (
        ["SET TRANSACTION READ ONLY", "INSERT INTO t VALUES (9)"], StoreUnavailable,
    ),
    "a serialization failure 40001": (["DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"], StoreBusy),
    "a deadlock 40P01": (["DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"], StoreBusy),
    "a full disk 53100": (["DO $$ BEGIN RAISE SQLSTATE '53100'; END $$"], StoreFull),
    "no connection left 53300": (["DO $$ BEGIN RAISE SQLSTATE '53300'; END $$"], StoreUnavailable),
    "a crash of another session 57P02": (["DO $$ BEGIN RAISE SQLSTATE '57P02'; END $$"], StoreUnavailable),
    "a server that starts 57P03": (["DO $$ BEGIN RAISE SQLSTATE '57P03'; END $$"], StoreUnavailable),
    "damaged data XX001": (["DO $$ BEGIN RAISE SQLSTATE 'XX001'; END $$"], StoreDamaged),
    "a wrong statement": (["SELECT nothing FROM nowhere"], None),
    "a broken rule": (["INSERT INTO t VALUES (1)"], None),
    "a value that does not fit": (["SELECT 1 / 0"], None),
    "a statement that is too complex 54001": (["DO $$ BEGIN RAISE SQLSTATE '54001'; END $$"], None),
}  # fmt: skip


@pytest.mark.parametrize("name", _STATEMENTS)
def test_errors_of_postgresql_are_outages_or_faults(on_postgresql: Database, name: str) -> None:
    """A state that passes is StoreUnavailable or the kind of it that says what to do; a fault stays an error."""
    statements, wanted = _STATEMENTS[name]
    holder: psycopg.Connection | None = None
    with driver(on_postgresql) as other:
        if wanted is StoreBusy and "NOWAIT" in statements[0]:
            holder = other
            holder.execute("BEGIN")
            holder.execute("LOCK TABLE t")
        with pytest.raises(wanted or sa.exc.DBAPIError) as caught, on_postgresql.write() as tx:
            for statement in statements:
                try:
                    tx.execute(sa.text(statement))
                except sa.exc.DBAPIError:
                    if statement == statements[-1]:
                        raise
        if holder is not None:
            holder.execute("ROLLBACK")
    assert is_outage(caught.value) == (wanted is not None)
    with on_postgresql.read() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM t")) == 2


def test_connections_that_are_all_in_use_are_an_outage(postgresql: str, tmp_path: Path) -> None:
    """Both the limit of the server (53300) and that of our own pool."""
    url = new_postgresql_database(postgresql)
    database = Database(url)
    with driver(database) as admin:
        admin.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 1")
    few = Database(url.replace("imagesmith@", "few@"))
    few.engine.pool = sa.pool.QueuePool(few.engine.pool._creator, pool_size=2, max_overflow=0, timeout=0.1)
    with few.read(), pytest.raises(StoreUnavailable), few.read():
        pass
    few.close()
    database.engine.pool = sa.pool.QueuePool(
        database.engine.pool._creator, pool_size=1, max_overflow=0, timeout=0.1,
    )  # fmt: skip
    with database.read(), pytest.raises(StoreBusy, match="all connections"), database.read():
        pass
    database.close()


def sqlite_at(folder: Path) -> Database:
    database = Database(f"sqlite:///{folder / 'store.sqlite'}")
    with database.write() as tx:
        tx.execute(sa.text("CREATE TABLE t (n integer PRIMARY KEY, words text)"))
    return database


def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    """SQLite's own word for it, and its I/O errors on a disk without space."""
    with small_disk_at(tmp_path / "disk", megabytes=2) as place:
        database = sqlite_at(place)
        fill(place)
        with pytest.raises(StoreFull, match=r"no space is left on the disk of .*store\.sqlite"):
            for number in range(1000):
                with database.write() as tx:
                    tx.execute(sa.text("INSERT INTO t VALUES (:n, :words)"), {"n": number, "words": "x" * 4000})
        database.close()


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    """The message names the file and says to restore it."""
    file = tmp_path / "store.sqlite"
    file.write_bytes(content)
    database = Database(f"sqlite:///{file}")
    with (
        pytest.raises(StoreDamaged, match=r"store\.sqlite is damaged .*restore it from a backup"),
        database.read() as tx,
    ):
        tx.execute(sa.text("SELECT * FROM sqlite_master"))
    database.close()


def test_a_locked_file_is_busy_and_a_wrong_statement_is_a_fault(tmp_path: Path) -> None:
    """Another process that holds the file is an outage, a table that is not there is none."""
    database, other = sqlite_at(tmp_path), sqlite_at_again(tmp_path)
    with other.write(), pytest.raises(StoreBusy), database.write(patience=0.05):
        pass
    with pytest.raises(sa.exc.OperationalError) as fault, database.read() as tx:
        tx.execute(sa.text("SELECT * FROM nowhere"))
    assert not is_outage(fault.value)
    database.close()
    other.close()


def sqlite_at_again(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'store.sqlite'}")


class Table:
    """Rows, written by a method that may be repeated."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @persistent
    def add(self, number: int, broken: list[int]) -> None:
        with self.database.write() as tx:
            tx.execute(sa.text("INSERT INTO t VALUES (:n)"), {"n": number})
            if broken:
                broken.pop()
                tx.execute(sa.text(_END))


def test_a_change_that_broke_in_the_middle_is_made_again_once(on_postgresql: Database) -> None:
    """Two connections break under it; the third try goes through, and there is one row."""
    waits = Waits()
    Table(on_postgresql.patient(waits)).add(7, [1, 2])
    assert [type(error) for error in waits.errors] == [StoreAway, StoreAway]
    with on_postgresql.read() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM t WHERE n = 7")) == 1


def test_what_may_not_be_repeated_is_control_flow(on_postgresql: Database) -> None:
    """A transaction of its own that breaks raises no Exception, so nobody can take it for a failure of the work."""
    with pytest.raises(StoreAway), on_postgresql.patient(Waits()).write() as tx:
        try:
            tx.execute(sa.text(_END))
        except Exception:
            tx.execute(sa.text("SELECT 1"))
    assert not issubclass(StoreAway, Exception)


def test_a_transaction_begins_when_the_file_is_free(tmp_path: Path) -> None:
    """A view with patience waits for the lock; when its patience ends, what that raises comes out."""
    database, other = sqlite_at(tmp_path), sqlite_at_again(tmp_path)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with other.write():
            held.set()
            free.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    waits = Waits(free.set)
    with database.patient(waits).write(patience=0.05) as tx:
        tx.execute(sa.text("INSERT INTO t VALUES (1, 'late')"))
    assert isinstance(waits.errors[0], StoreBusy) and waits.answered == 1
    with other.write(), pytest.raises(Stopped), database.patient(Waits(most=2)).write(patience=0.01):
        pass
    database.close()
    other.close()


def test_a_number_grows_once_however_often_its_commit_is_tried() -> None:
    """Whether the COMMIT whose answer was lost went through or not."""
    lost, kept = CountOnce(1), CountOnce(1)
    assert (lost.after(4), lost.after(4)) == (5, 5)
    assert (kept.after(4), kept.after(5)) == (5, 5)
