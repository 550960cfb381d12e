"""Decides when a process polls its queues: when a run waits there, not at fixed intervals.

DBOS polls every queue at an interval, whether anything waits or not, which was most of the work of an idle process
(a quarter of a processor with six queues on PostgreSQL). Here the thread of a queue blocks

    until this process enqueued a run there, or a run ended in it      notify()
    or another process enqueued a run there                            watch(), one query for all
    or, should both have missed it, for some seconds

and then until a slot is free.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from imagesmith.periodic import Periodic

_WAIT_SECONDS = 2.0
_WATCHED_WAIT_SECONDS = 5.0
_SETTLING_SECONDS = 5.0
"""Seconds after a launch in which DBOS enqueues interrupted runs without calling us."""
_SETTLING_WAIT_SECONDS = 0.2
_WATCH_SECONDS = 0.2
_POLL_INTERVAL_SECONDS = 0.04
"""Shortest time between two polls of a queue, also when notifications are more frequent."""
_PATIENCE_SECONDS = 2.0


class QueuePoller:
    """Decides when each queue-polling thread polls. Thread-safe."""

    def __init__(self, queues: Iterable[str], *, has_room: Callable[[str], bool]) -> None:
        """`has_room`: whether this process may claim a run from a queue now; called often."""
        self._notified = {name: threading.Event() for name in queues}
        self._polled = dict.fromkeys(self._notified, float("-inf"))
        self._has_room = has_room
        self._settled = time.monotonic() + _SETTLING_SECONDS
        self._closed = threading.Event()
        self._watcher: Periodic | None = None

    def notify(self, *queues: str) -> None:
        """Poll these queues now, or all when none is named; queues of other processes are ignored."""
        for name in queues or self._notified:
            if name in self._notified:
                self._notified[name].set()

    def notify_end(self) -> None:
        """A run ended, so a slot may be free for a waiting run. A watcher finds waiting runs without this."""
        if self._watcher is None:
            self.notify()

    def wait(self, queue: str) -> None:
        """Wait until a queue is to be polled and a slot is free; returns at once after close()."""
        notified = self._notified[queue]
        if self._closed.is_set():
            return
        notified.wait(self._wait_seconds())
        self._closed.wait(max(self._polled[queue] + _POLL_INTERVAL_SECONDS - time.monotonic(), 0))
        while not self._has_room(queue) and not self._closed.wait(_POLL_INTERVAL_SECONDS):
            pass
        # before the poll, not after it: a run that is enqueued meanwhile causes another poll
        notified.clear()
        self._polled[queue] = time.monotonic()

    def watch(self, find: Callable[[], Iterable[str]]) -> None:
        """Poll periodically, with one query, for queues into which other processes put runs."""

        def find_waiting() -> None:
            if found := tuple(find()):
                self.notify(*found)

        self._watcher = Periodic(
            "engine-poller", find_waiting, seconds=_WATCH_SECONDS, failing="polling the queues failed",
            level=logging.DEBUG, expected=lambda _: True,
        )  # fmt: skip
        self._watcher.start()

    def close(self) -> None:
        """Release all waiting threads."""
        self._closed.set()
        self.notify()
        if self._watcher is not None:
            # it may be in a query to a database that does not answer
            self._watcher.stop(_PATIENCE_SECONDS)

    def _wait_seconds(self) -> float:
        if time.monotonic() < self._settled:
            return _SETTLING_WAIT_SECONDS
        return _WAIT_SECONDS if self._watcher is None else _WATCHED_WAIT_SECONDS
