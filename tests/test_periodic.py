"""Rounds of a thread: when they run, what is said of those that fail, and how they end."""

from __future__ import annotations

import ast
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from imagesmith import periodic
from imagesmith.periodic import Periodic

SOURCE: Final = Path(periodic.__file__).parent
LONG: Final = 3600.0
THREADS: Final = {
    "periodic.py": "the rounds",
    "background.py": "waits for one program",
    "instances/machine/loop.py": "runs a loop of asyncio",
    "instances/machine/metadata.py": "serves a socket",
    "instances/sandbox.py": "waits for one program",
    "engine/background_retries.py": "does one thing until it succeeds",
    "cli/startup.py": "loads modules once",
    "layers/overlay_mounts.py": "mounts from a working folder of its own, and ends",
    "wire/server.py": "serves a socket",
}


def rounds(work: Callable[[], float | None], *, at_once: bool = True, last: bool = False) -> Periodic:
    return Periodic(
        "rounds", work, seconds=LONG, failing="the round failed", working="the round works again", at_once=at_once,
        last=last,
    )  # fmt: skip


def test_wake_has_the_next_round_now() -> None:
    """Otherwise it would come an hour later; a wake during a round is not lost."""
    ran = threading.Semaphore(0)
    thread = rounds(ran.release, at_once=False)
    thread.start()
    for _ in range(3):
        thread.wake()
        assert ran.acquire(timeout=10)
    thread.stop()


def test_a_round_says_when_the_next_one_is() -> None:
    """Its answer counts instead of the usual seconds."""
    ran = threading.Semaphore(0)

    def work() -> float:
        ran.release()
        return 0.001

    thread = rounds(work)
    thread.start()
    assert all(ran.acquire(timeout=10) for _ in range(5))
    thread.stop()


@pytest.mark.parametrize(("last", "expected"), [(False, 1), (True, 2)])
def test_stop_ends_the_rounds_after_a_last_one_where_that_is_wanted(*, last: bool, expected: int) -> None:
    """Nothing runs once stop() has returned; a second stop() does nothing."""
    ran: list[int] = []
    first = threading.Event()

    def work() -> None:
        ran.append(1)
        first.set()

    thread = rounds(work, last=last)
    thread.start()
    assert first.wait(10)
    thread.stop()
    thread.stop()
    assert len(ran) == expected


def test_stop_without_start_does_nothing() -> None:
    """Whoever closes need not know how far the start came."""
    rounds(lambda: None).stop()


def test_stop_waits_no_longer_than_it_has_patience() -> None:
    """A round that hangs does not hold up the end of the process."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(60)

    thread = rounds(work)
    thread.start()
    assert begun.wait(10)
    thread.stop(0.01)
    go_on.set()
    thread.stop()


def test_work_may_end_its_own_rounds() -> None:
    """What was to be done once in the end is not done again."""
    ran: list[int] = []

    def work() -> float:
        ran.append(1)
        thread.end()
        return 0.0

    thread = rounds(work)
    thread.start()
    thread.stop()
    assert len(ran) <= 1


def test_each_text_is_logged_once_until_a_round_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    """Two troubles that take turns are two lines; the same trouble after a success is a new one."""
    errors: list[Exception | None] = [
        OSError("a"), OSError("b"), OSError("a"), ValueError("a"), None, None, OSError("a"), None
    ]  # fmt: skip
    done = threading.Event()
    left = iter(errors)

    def work() -> float:
        error = next(left, Ellipsis)
        if error is Ellipsis:
            done.set()
            return LONG
        if isinstance(error, Exception):
            thread.wake()
            raise error
        return 0.0

    thread = rounds(work)
    with caplog.at_level(logging.WARNING, logger="imagesmith.periodic"):
        thread.start()
        assert done.wait(10)
        thread.stop()

    assert [record.getMessage() for record in caplog.records] == [
        "the round failed: a", "the round failed: b", "the round failed: a", "the round works again",
        "the round failed: a", "the round works again",
    ]  # fmt: skip


def test_threads_with_rounds_are_started_in_one_place() -> None:
    """Who needs rounds takes Periodic; the other threads do something else, which is said here."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Thread":
                found.add(str(path.relative_to(SOURCE)))

    assert found == set(THREADS)
