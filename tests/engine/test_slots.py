"""How many runs a process takes: never more than its places, counted from the moment they are taken."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagesmith.engine import slots as module
from imagesmith.engine.slots import Slots

QUEUES = {"one": ("builds", 3), "two": ("builds", 3), "parts": ("parts", 2)}


def taken(slots: Slots, queue: str) -> list[str]:
    """Take all that may be taken from a queue in which more waits than anybody may take."""
    limit = slots.claim_limit
    with limit.lock:
        count = limit.free(queue)
        time.sleep(0.001)
        keys = [f"{queue}-{uuid.uuid4()}" for _ in range(count)]
        limit.claimed(queue, keys)
    return keys


@pytest.fixture
def slots() -> Slots:
    return Slots(QUEUES, is_open=lambda: True)


def test_what_was_taken_counts_before_it_begins(slots: Slots) -> None:
    """DBOS knows nothing of it yet, and says so."""
    assert len(taken(slots, "one")) == 3
    assert taken(slots, "one") == taken(slots, "two") == []
    assert not slots.has_room("two") and slots.has_room("parts")


def test_a_place_is_free_again_after_the_run(slots: Slots) -> None:
    """For any queue that shares the places."""
    keys = taken(slots, "one")
    with slots.running(keys[0]):
        assert slots.free("two") == 0
    assert slots.free("one") == slots.free("two") == 1
    assert len(taken(slots, "two")) == 1


def test_two_queues_do_not_take_the_same_place(slots: Slots) -> None:
    """However many threads look at once."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: taken(slots, ("one", "two")[number % 2]), range(40)))
    assert sum(map(len, found)) == 3


def test_what_never_begins_gives_its_place_back(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS could not carry it out: the others must not wait for it for ever."""
    taken(slots, "parts")
    assert not slots.has_room("parts")
    monkeypatch.setattr(module, "_START_SECONDS", 0.0)
    time.sleep(0.01)
    assert slots.free("parts") == 2


def test_nothing_is_taken_while_closed() -> None:
    """A worker that drains."""
    closed = Slots(QUEUES, is_open=lambda: False)
    assert taken(closed, "one") == [] and not closed.has_room("one")


def test_the_limit_is_for_the_queues_of_this_process() -> None:
    """Queues that are not its own keep the limits that they have."""
    assert set(Slots(QUEUES, is_open=lambda: True).claim_limit.queues) == set(QUEUES)
