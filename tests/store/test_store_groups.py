"""Group commit: changes that wait for each other are one transaction, but each stands or falls alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from imagesmith.store.database import Database, StoreBusy, StoreUnavailable
from imagesmith.store.tables import counters


def put(tx: Any, key: str) -> None:
    tx.execute(sa.insert(counters).values(key=key, value=1))


def keys(database: Database) -> set[str]:
    with database.read() as tx:
        return {row.key for row in tx.execute(sa.select(counters.c.key))}


def in_threads(count: int, work: Callable[[int], None]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_changes_that_wait_share_commits(sqlite_database: Database) -> None:
    """Far fewer commits than changes, and every change is there when its call returns."""
    commits: list[int] = []
    sa.event.listen(sqlite_database.engine, "commit", lambda _: commits.append(1))

    def change(number: int) -> None:
        with sqlite_database.write() as tx:
            put(tx, str(number))
            time.sleep(0.002)
        assert str(number) in keys(sqlite_database)

    before = keys(sqlite_database)
    assert in_threads(40, change) == []
    assert keys(sqlite_database) - before == {str(number) for number in range(40)}
    writes = len(commits) - 42  # each look at the keys commits too
    assert 0 < writes < 30


def test_a_change_that_fails_takes_no_other_with_it(sqlite_database: Database) -> None:
    """Every third change raises after it wrote: exactly the others are stored."""

    def change(number: int) -> None:
        with sqlite_database.write() as tx:
            put(tx, str(number))
            time.sleep(0.001)
            if number % 3 == 0:
                raise KeyError(number)

    errors = in_threads(30, change)
    assert sorted(error.args[0] for error in errors) == list(range(0, 30, 3))
    stored = {key for key in keys(sqlite_database) if key.isdigit()}
    assert stored == {str(number) for number in range(30) if number % 3}


def test_a_commit_that_fails_fails_every_change_of_its_group(sqlite_database: Database) -> None:
    """No caller is told that something is stored which is not."""
    failing = threading.Event()

    @sa.event.listens_for(sqlite_database.engine, "commit")
    def refuse(_connection: Any) -> None:
        if failing.is_set():
            raise sa.exc.OperationalError("COMMIT", {}, Exception("disk I/O error"))

    def change(number: int) -> None:
        with sqlite_database.write() as tx:
            put(tx, str(number))
            time.sleep(0.002)

    failing.set()
    errors = in_threads(8, change)
    failing.clear()
    assert [type(error) for error in errors] == [StoreUnavailable] * 8
    assert not {key for key in keys(sqlite_database) if key.isdigit()}
    change(99)
    assert "99" in keys(sqlite_database)


def test_a_group_is_closed_when_those_who_waited_gave_up(sqlite_database: Database) -> None:
    """A change is committed soon even though the one that was to follow it never comes."""
    entered, go_on = threading.Event(), threading.Event()

    def first(_number: int) -> None:
        with sqlite_database.write() as tx:
            put(tx, "first")
            entered.set()
            assert go_on.wait(30)

    def late() -> None:
        assert entered.wait(30)
        with pytest.raises(StoreBusy), sqlite_database.write(patience=0.1):
            raise AssertionError("its turn came")
        go_on.set()

    waiter = threading.Thread(target=late)
    waiter.start()
    assert in_threads(1, first) == []
    waiter.join(30)
    assert "first" in keys(sqlite_database)


def test_each_change_sees_the_ones_before_it(sqlite_database: Database) -> None:
    """Reading, adding one and writing back from many threads loses nothing."""
    with sqlite_database.write() as tx:
        tx.execute(sa.insert(counters).values(key="n", value=0))

    def change(_number: int) -> None:
        for _ in range(5):
            with sqlite_database.write() as tx:
                value = tx.execute(sa.select(counters.c.value).where(counters.c.key == "n")).scalar_one()
                tx.execute(sa.update(counters).where(counters.c.key == "n").values(value=value + 1))

    assert in_threads(16, change) == []
    with sqlite_database.read() as tx:
        assert tx.execute(sa.select(counters.c.value).where(counters.c.key == "n")).scalar_one() == 80
