"""When a queue is looked into: at once when something was put there, and never before without a reason."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest

from imagesmith.engine.queue_poller import QueuePoller


class Looks:
    """A thread that looks into a queue again and again."""

    def __init__(self, poller: QueuePoller, queue: str) -> None:
        self._poller = poller
        self._queue = queue
        self._looked = threading.Semaphore(0)
        self._over = False
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over:
            self._poller.wait(self._queue)
            self._looked.release()

    def one(self, seconds: float = 30) -> bool:
        """Whether there was another look."""
        return self._looked.acquire(timeout=seconds)

    def end(self) -> None:
        self._over = True
        self._poller.close()
        self._thread.join()


@pytest.fixture
def poller(monkeypatch: pytest.MonkeyPatch) -> Iterator[QueuePoller]:
    """One whose rests are longer than a test."""
    for name in ("_WAIT_SECONDS", "_WATCHED_WAIT_SECONDS", "_SETTLING_WAIT_SECONDS"):
        monkeypatch.setattr(f"imagesmith.engine.queue_poller.{name}", 600.0)
    made = QueuePoller(["builds", "parts"], has_room=lambda _: True)
    yield made
    made.close()


def test_a_call_ends_the_rest_of_its_queue_only(poller: QueuePoller) -> None:
    """Each call is one look; a queue of others is nobody's to look into."""
    builds, parts = Looks(poller, "builds"), Looks(poller, "parts")
    for _ in range(3):
        poller.notify("builds", "of-others")
        assert builds.one()
    assert not parts.one(0.2)
    poller.notify()
    assert builds.one() and parts.one()
    builds.end()
    parts.end()


def test_what_is_put_there_before_the_rest_is_seen(poller: QueuePoller) -> None:
    """A call that comes between two rests is not lost."""
    poller.notify("builds")
    poller.wait("builds")


def test_what_other_processes_put_there_is_found(poller: QueuePoller) -> None:
    """Also after a question that failed."""
    asked = 0

    def find() -> Iterable[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("the database is away")
        return ["parts"]

    parts, builds = Looks(poller, "parts"), Looks(poller, "builds")
    poller.watch(find)
    assert parts.one() and parts.one()
    assert not builds.one(0.2)
    parts.end()
    builds.end()


def test_without_room_nobody_looks(poller: QueuePoller) -> None:
    """What was put there is found as soon as there is a place, without a further call."""
    room = threading.Event()
    full = QueuePoller(["builds"], has_room=lambda _: room.is_set())
    builds = Looks(full, "builds")
    full.notify("builds")
    assert not builds.one(0.2)
    room.set()
    assert builds.one()
    builds.end()


def test_the_end_of_a_run_is_a_reason_to_look(poller: QueuePoller) -> None:
    """Into every queue; where the queues are watched, the watcher knows better."""
    builds = Looks(poller, "builds")
    poller.notify_end()
    assert builds.one()
    poller.watch(list)
    poller.notify_end()
    assert not builds.one(0.2)
    builds.end()
