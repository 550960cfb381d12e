"""How many runs a process takes: never more than its places, counted from the moment they are taken."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from imagesmith.engine import places as module
from imagesmith.engine.places import Places

QUEUES = {"one": ("builds", 3), "two": ("builds", 3), "parts": ("parts", 2)}


@dataclass
class Queue:
    name: str
    _worker_concurrency: int | None = None


class System:
    """A journal in which more waits than anybody may take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def start_queued_workflows(
        self, queue: Queue, executor: str, version: str, partition: Any = None, running: int = 0, **_: Any
    ) -> tuple[list[str], None]:
        wanted = queue._worker_concurrency
        time.sleep(0.001)
        count = 1 if wanted is None else max(wanted - running, 0)
        with self._lock:
            keys = [f"{queue.name}-{self._number + turn}" for turn in range(count)]
            self._number += count
        return keys, None


def taken(system: System, queue: str, running: int = 0) -> list[str]:
    keys, _ = system.start_queued_workflows(Queue(queue), "me", "1", None, running)
    return keys


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def places(system: System) -> Places:
    made = Places(QUEUES, is_open=lambda: True)
    made.guard(system)
    return made


def test_what_was_taken_counts_before_it_begins(system: System, places: Places) -> None:
    """DBOS knows nothing of it yet, and says so."""
    assert len(taken(system, "one")) == 3
    assert taken(system, "one") == taken(system, "two") == []
    assert not places.has_room("two") and places.has_room("parts")


def test_a_place_is_free_again_after_the_run(system: System, places: Places) -> None:
    """For any queue that shares the places."""
    keys = taken(system, "one")
    with places.running(keys[0]):
        assert places.free("two") == 0
    assert places.free("one") == places.free("two") == 1
    assert len(taken(system, "two", running=0)) == 1


def test_two_queues_do_not_take_the_same_place(system: System, places: Places) -> None:
    """However many threads look at once."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: taken(system, ("one", "two")[number % 2]), range(40)))
    assert sum(map(len, found)) == 3


def test_what_never_begins_gives_its_place_back(
    system: System, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DBOS could not carry it out: the others must not wait for it for ever."""
    taken(system, "parts")
    assert not places.has_room("parts")
    monkeypatch.setattr(module, "_BEGIN_SECONDS", 0.0)
    time.sleep(0.01)
    assert places.free("parts") == 2


def test_nothing_is_taken_while_closed(system: System) -> None:
    """A worker that drains; queues that are not its own are none of its business."""
    closed = Places(QUEUES, is_open=lambda: False)
    closed.guard(system)
    assert taken(system, "one") == [] and not closed.has_room("one")
    assert len(taken(system, "timers")) == 1
