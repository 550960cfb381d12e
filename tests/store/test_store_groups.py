"""Group commit: changes that wait for each other are one transaction, but each stands or falls alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def together(database: Database) -> Iterator[None]:
    shared = database.begin_group()
    try:
        with shared.joined():
            yield
    finally:
        shared.end()


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
    assert 0 < len(commits) < 30


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


def test_changes_made_together_are_one_commit(sqlite_database: Database) -> None:
    """Nothing is committed before the end, and a change that raises is undone alone."""
    commits: list[int] = []
    sa.event.listen(sqlite_database.engine, "commit", lambda _: commits.append(1))
    with together(sqlite_database):
        for number in range(6):
            with suppress(KeyError), sqlite_database.write() as tx:
                put(tx, str(number))
                if number % 3 == 0:
                    raise KeyError(number)
        assert commits == []
    assert commits == [1]
    assert {key for key in keys(sqlite_database) if key.isdigit()} == {"1", "2", "4", "5"}


def test_a_commit_that_fails_fails_all_that_was_made_together(sqlite_database: Database) -> None:
    """The end raises, nothing is stored, and later changes work again."""
    failing = True

    @sa.event.listens_for(sqlite_database.engine, "commit")
    def refuse(_connection: Any) -> None:
        if failing:
            raise sa.exc.OperationalError("COMMIT", {}, Exception("disk I/O error"))

    with pytest.raises(StoreUnavailable), together(sqlite_database):
        for number in range(3):
            with sqlite_database.write() as tx:
                put(tx, str(number))
    failing = False
    with sqlite_database.write() as tx:
        put(tx, "after")
    assert not {key for key in keys(sqlite_database) if key.isdigit()}
    assert "after" in keys(sqlite_database)


def test_changes_made_together_leave_others_their_turn(sqlite_database: Database) -> None:
    """A thread that makes changes together without a pause does not keep another one from its turn."""
    stop = threading.Event()
    rounds = 0

    def busy() -> None:
        nonlocal rounds
        while not stop.is_set():
            with together(sqlite_database), sqlite_database.write() as tx:
                put(tx, f"busy {rounds}")
            rounds += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for number in range(20):
            with sqlite_database.write(patience=10) as tx:
                put(tx, str(number))
    finally:
        stop.set()
        thread.join(30)
    assert rounds > 0
    stored = keys(sqlite_database)
    assert {key for key in stored if key.isdigit()} == {str(number) for number in range(20)}
    assert len([key for key in stored if key.startswith("busy")]) == rounds


def test_nothing_made_together_is_an_empty_commit(sqlite_database: Database) -> None:
    """Together around no change neither raises nor writes."""
    before = keys(sqlite_database)
    with together(sqlite_database):
        pass
    assert keys(sqlite_database) == before


def test_what_is_made_together_may_change_threads(sqlite_database: Database) -> None:
    """One thread begins and writes, another one commits; only then is it there, and others get their turn."""
    shared = sqlite_database.begin_group()
    with shared.joined(), sqlite_database.write() as tx:
        put(tx, "1")
    with pytest.raises(StoreBusy), sqlite_database.write(patience=0):
        raise AssertionError("its turn came")
    assert "1" not in keys(sqlite_database)
    assert in_threads(1, lambda _: shared.end()) == []
    with sqlite_database.write(patience=0) as tx:
        put(tx, "2")
    assert {"1", "2"} <= keys(sqlite_database)
