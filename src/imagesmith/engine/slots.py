"""The slots of a process: how many runs it may claim from its queues, and which it has.

DBOS keeps the limit of a queue in the database, the same for all processes; here every process has its own limits,
and builds share one over all queues. DBOS counts a claimed run only once it has started, so a run is counted here
from its claim.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from imagesmith.engine.dbos_private import ClaimLimit

_START_SECONDS = 60.0
"""A claimed run that has not started after this many seconds is treated as lost."""


class Slots:
    """Counts the claimed and the running runs of a process. Thread-safe."""

    def __init__(self, limits: Mapping[str, tuple[str, int]], *, is_open: Callable[[], bool]) -> None:
        """`limits`: queue -> group in which its runs are counted, and greatest number of running runs of the group.

        `is_open`: whether runs may be claimed at all.
        """
        self._limits = limits
        self._is_open = is_open
        self._claiming = threading.Lock()
        self._lock = threading.Lock()
        self._running: dict[object, str] = {}
        self._claimed: dict[str, tuple[str, float]] = {}

    def free(self, queue: str) -> int:
        """How many runs may be claimed from a queue now."""
        if not self._is_open():
            return 0
        group, limit = self._limits[queue]
        now = time.monotonic()
        with self._lock:
            late = [key for key, (_, when) in self._claimed.items() if now - when > _START_SECONDS]
            for key in late:
                del self._claimed[key]
            counted = [*self._running.values(), *(of for of, _ in self._claimed.values())]
        return max(limit - counted.count(group), 0)

    def has_room(self, queue: str) -> bool:
        return self.free(queue) > 0

    @contextmanager
    def running(self, key: str) -> Iterator[None]:
        """Count a claimed run as running; a parked run may be claimed again before its context ends here."""
        token = object()
        with self._lock:
            claimed = self._claimed.pop(key, None)
            if claimed is not None:
                self._running[token] = claimed[0]
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(token, None)

    def claimed(self, queue: str, keys: Sequence[str]) -> None:
        """Count runs that were claimed from a queue and have not started."""
        with self._lock:
            self._claimed |= dict.fromkeys(keys, (self._limits[queue][0], time.monotonic()))

    @property
    def claim_limit(self) -> ClaimLimit:
        """The limit for dbos_private.limit_claims()."""
        return ClaimLimit(self._limits.keys(), self._claiming, free=self.free, claimed=self.claimed)
