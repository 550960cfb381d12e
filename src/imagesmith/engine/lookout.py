"""When a process looks into its queues: when something waits there, not again and again.

DBOS looks into every queue in intervals, whether anything waits or not, and that was most of what an idle process
did (a quarter of a processor with six queues on PostgreSQL). Here the thread of a queue rests

    until something was put into the queue, or a run ended, in this process      call()
    or something was put there by another one                                    watch(), one question for all
    or, should both have missed it, for some seconds

and then until there is a place for what it may find.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

_REST_SECONDS = 2.0
_WATCHED_REST_SECONDS = 5.0
_SETTLING_SECONDS = 5.0
"""After a launch DBOS enqueues what was interrupted, and says nothing."""
_SETTLING_REST_SECONDS = 0.2
_WATCH_SECONDS = 0.2
_BETWEEN_SECONDS = 0.04
"""Between two looks into a queue, also when calls come faster."""
_PATIENCE_SECONDS = 2.0


class Lookout:
    """The rests of the threads of queues. Safe for several threads."""

    def __init__(self, queues: Iterable[str], *, has_room: Callable[[str], bool]) -> None:
        """`has_room`: whether this process may take something from a queue now; asked often."""
        self._calls = {name: threading.Event() for name in queues}
        self._looked = dict.fromkeys(self._calls, float("-inf"))
        self._has_room = has_room
        self._settled = time.monotonic() + _SETTLING_SECONDS
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def call(self, *queues: str) -> None:
        """Have queues looked into now, all when none is named; those of others are left alone."""
        for name in queues or self._calls:
            if name in self._calls:
                self._calls[name].set()

    def ended(self) -> None:
        """A run ended: there may be a place for what waits. A watcher finds that by itself."""
        if self._watcher is None:
            self.call()

    def rest(self, queue: str) -> None:
        """Wait until it is time to look into a queue, and there is room; returns at once after close()."""
        call = self._calls[queue]
        if self._closed.is_set():
            return
        call.wait(self._rest_seconds())
        self._closed.wait(max(self._looked[queue] + _BETWEEN_SECONDS - time.monotonic(), 0))
        while not self._has_room(queue) and not self._closed.wait(_BETWEEN_SECONDS):
            pass
        # before the look, not after it: what is put there meanwhile gets a look of its own
        call.clear()
        self._looked[queue] = time.monotonic()

    def watch(self, find: Callable[[], Iterable[str]]) -> None:
        """Ask again and again which queues hold something that other processes put there."""

        def watch() -> None:
            while not self._closed.wait(_WATCH_SECONDS):
                try:
                    found = tuple(find())
                except Exception as error:
                    _log.debug("looking at the queues failed: %s", error)
                else:
                    if found:
                        self.call(*found)

        self._watcher = threading.Thread(target=watch, name="engine-lookout", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Nobody rests any more."""
        self._closed.set()
        self.call()
        if self._watcher is not None:
            # it may be in the middle of a question to a database that does not answer
            self._watcher.join(_PATIENCE_SECONDS)

    def _rest_seconds(self) -> float:
        if time.monotonic() < self._settled:
            return _SETTLING_REST_SECONDS
        return _REST_SECONDS if self._watcher is None else _WATCHED_REST_SECONDS
