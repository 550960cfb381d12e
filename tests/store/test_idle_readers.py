"""Connections of readers on SQLite: who has one, and what a read leaves behind."""

from __future__ import annotations

import threading

import pytest

from imagesmith.store.database import Database
from imagesmith.store.prepared import driver_of, on_driver


def test_reads_one_after_the_other_share_a_connection(sqlite_database: Database) -> None:
    """Also the read after one that failed, and no transaction is left open."""
    with sqlite_database.read() as first:
        on_driver(first, "SELECT count(*) FROM resources")
    with pytest.raises(ZeroDivisionError), sqlite_database.read() as second:
        raise ZeroDivisionError
    with sqlite_database.read() as third:
        pass
    assert first is second is third
    assert not driver_of(third).in_transaction and not third.in_transaction()


def test_reads_at_the_same_time_have_their_own(sqlite_database: Database) -> None:
    """A read within a read, and the reads of two threads."""
    found = []
    with sqlite_database.read() as outer, sqlite_database.read() as inner:

        def read() -> None:
            with sqlite_database.read() as other:
                found.append(other)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        assert len({id(outer), id(inner), id(found[0])}) == 3


def test_a_read_sees_what_was_written_before_it(sqlite_database: Database) -> None:
    """A connection that was idle meanwhile shows no older moment."""
    count = "SELECT count(*) FROM resources"
    with sqlite_database.read() as tx:
        before = on_driver(tx, count).fetchone()[0]
    with sqlite_database.write() as tx:
        on_driver(tx, "CREATE TABLE extra (a INTEGER)")
        on_driver(tx, "INSERT INTO extra VALUES (1)")
    with sqlite_database.read() as tx:
        assert on_driver(tx, "SELECT count(*) FROM extra").fetchone()[0] == 1
        assert on_driver(tx, count).fetchone()[0] == before
