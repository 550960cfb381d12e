"""How many runs a process may take from its queues, and which it has.

DBOS keeps the limits of a queue in the database, one for all processes; here every process has its own, and the one
for builds holds for all its queues together. DBOS counts what it took only once that has begun, so a run is counted
here from the moment it is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_BEGIN_SECONDS = 60.0
"""What has not begun by then never will: DBOS could not carry it out."""


class Places:
    """Safe for several threads."""

    def __init__(self, limits: Mapping[str, tuple[str, int]], *, is_open: Callable[[], bool]) -> None:
        """`limits`: queue -> a name for what its runs are counted with, and how many of that may run at once.

        `is_open`: whether anything may be taken at all.
        """
        self._limits = limits
        self._is_open = is_open
        self._taking = threading.Lock()
        self._lock = threading.Lock()
        self._begun: dict[object, str] = {}
        self._taken: dict[str, tuple[str, float]] = {}

    def free(self, queue: str) -> int:
        """How many runs may be taken from a queue now."""
        if not self._is_open():
            return 0
        group, limit = self._limits[queue]
        now = time.monotonic()
        with self._lock:
            late = [key for key, (_, when) in self._taken.items() if now - when > _BEGIN_SECONDS]
            for key in late:
                del self._taken[key]
            held = [*self._begun.values(), *(of for of, _ in self._taken.values())]
        return max(limit - held.count(group), 0)

    def has_room(self, queue: str) -> bool:
        return self.free(queue) > 0

    @contextmanager
    def running(self, key: str) -> Iterator[None]:
        """A run that was taken runs; one that left for another time may be taken again before it ends here."""
        token = object()
        with self._lock:
            taken = self._taken.pop(key, None)
            if taken is not None:
                self._begun[token] = taken[0]
        try:
            yield
        finally:
            with self._lock:
                self._begun.pop(token, None)

    def guard(self, system: Any) -> None:
        """Have DBOS's database take no more than there are places for."""
        take = system.start_queued_workflows

        def start(
            queue: Any, executor: str, version: str, partition: Any = None, running: int = 0, **rest: Any
        ) -> Any:
            if queue.name not in self._limits:
                return take(queue, executor, version, partition, running, **rest)
            # one at a time: two queues with the same places must not both see the last one
            with self._taking:
                queue._worker_concurrency = running + self.free(queue.name)
                keys, reason = take(queue, executor, version, partition, running, **rest)
                with self._lock:
                    self._taken |= dict.fromkeys(keys, (self._limits[queue.name][0], time.monotonic()))
            return keys, reason

        system.start_queued_workflows = start
