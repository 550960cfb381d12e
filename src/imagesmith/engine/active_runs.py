"""The table of the runs that this process is executing.

EngineProcess stops them, RunQueue wakes them, and their executions add, park and remove them: all under the lock of
this table.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from imagesmith.processes import Cancellation
from imagesmith.store.runs import Fence


class Interrupted(BaseException):
    """The process is stopping, or the run is parked; the step counts as not executed."""


@dataclass
class ActiveRun:
    """A run in this process."""

    cancellation: Cancellation = field(default_factory=Cancellation)
    woken: bool = False
    lost: bool = False
    """Another process continues the run."""
    fence: Fence | None = None


class ActiveRuns:
    """Thread-safe."""

    def __init__(self) -> None:
        self.stopping = Cancellation()
        """Requested once the process stops."""
        self._lock = threading.Lock()
        self._runs: dict[str, ActiveRun] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._runs)

    def add(self, key: str) -> ActiveRun:
        """Raises Interrupted once the process stops."""
        with self._lock:
            if self.stopping.requested:
                raise Interrupted
            run = self._runs[key] = ActiveRun()
        return run

    def remove(self, key: str, run: ActiveRun) -> None:
        """Remove a run, unless it was parked and has been resumed here already."""
        with self._lock:
            if self._runs.get(key) is run:
                del self._runs[key]

    def cancel(self, key: str) -> bool:
        """Cancel the run of a key if it is in this process; returns whether it is."""
        with self._lock:
            run = self._runs.get(key)
            if run is not None:
                run.cancellation.cancel()
        return run is not None

    def wake(self, key: str, *, otherwise: Callable[[], None]) -> None:
        """Make an active run poll again before it parks; calls `otherwise` if the run is not active."""
        # under the lock of park(): a run either sees the flag or is parked before it is resumed
        with self._lock:
            run = self._runs.get(key)
            if run is not None:
                run.woken = True
            else:
                otherwise()

    def begin_poll(self, run: ActiveRun) -> None:
        """A wake after this call makes the run poll again."""
        with self._lock:
            run.woken = False

    def park(self, key: str, run: ActiveRun, *, leave: Callable[[], None]) -> bool:
        """Call `leave` and remove a run; returns False if the run was woken since its poll began."""
        with self._lock:
            if run.woken:
                return False
            leave()
            del self._runs[key]
        return True

    def stop(self) -> None:
        """Interrupt all runs and refuse new ones."""
        with self._lock:
            self.stopping.cancel()
            for run in self._runs.values():
                run.cancellation.cancel()

    def lose(self) -> None:
        """Interrupt all runs: other processes may continue them."""
        with self._lock:
            for run in self._runs.values():
                run.lost = True
                run.cancellation.cancel()
