"""When a process looks into its queues: when something waits there, not again and again.

DBOS looks into every queue in intervals, whether anything waits or not, and that was most of what an idle process
did (a quarter of a processor with six queues on PostgreSQL). Here the thread of a queue rests

    until something was put into the queue by this process      call()
    or by another one                                           watch(), one small question for all queues
    or, should both have missed it, for some seconds

A place that became free is not announced by DBOS, so for a moment after the end of a run it is looked for often.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

_REST_SECONDS = 2.0
_WATCHED_REST_SECONDS = 5.0
_ENDING_SECONDS = 0.04
_WATCH_SECONDS = 0.2
_PATIENCE_SECONDS = 2.0


class Lookout:
    """The rests of the threads of queues. Safe for several threads."""

    def __init__(self, queues: Iterable[str], *, ending: Callable[[], bool]) -> None:
        """`ending`: whether a run ended here a moment ago."""
        self._calls = {name: threading.Event() for name in queues}
        self._ending = ending
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def call(self, *queues: str) -> None:
        """Have queues looked into now, all when none is named; those of others are left alone."""
        for name in queues or self._calls:
            if name in self._calls:
                self._calls[name].set()

    def rest(self, queue: str) -> None:
        """Wait until it is time to look into a queue; returns at once after close()."""
        call = self._calls[queue]
        if not self._closed.is_set():
            call.wait(self._rest_seconds())
            # before the look, not after it: what is put there meanwhile gets a look of its own
            call.clear()

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
        if self._ending():
            return _ENDING_SECONDS
        return _REST_SECONDS if self._watcher is None else _WATCHED_REST_SECONDS
