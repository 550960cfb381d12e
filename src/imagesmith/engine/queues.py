"""The queues that builds wait in.

    one process        builds, parts
    several hosts      container.x86_64, machine.x86_64           who can build that
                       container.x86_64.parts, ...                members of parallel groups
                       @<worker>, @<worker>.parts                 runs whose instance is on that worker
    always             timers

How many runs a process takes is said in engine/places.py, and when it looks into a queue in engine/lookout.py.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dbos import DBOS

from imagesmith.workflows.journal import is_part

BUILDS: Final = "builds"
PARTS: Final = "parts"
TIMERS: Final = "timers"
CAPABILITIES: Final = ("container.x86_64", "machine.x86_64")
PARTS_AT_ONCE: Final = 5
_POLL_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.002
"""Between the end of a rest and the look."""
_TIMER_POLL_SECONDS: Final = 1.0
WORKER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Queues:
    """What one process listens to."""

    builds: tuple[str, ...]
    concurrency: int
    declared: tuple[str, ...] = ()
    """Queues of builds that others may listen to: enqueueing needs every queue to be declared."""
    overall: int = 0
    """How many builds of one queue may run on all workers together; 0: any number."""
    is_shared: bool = False

    @classmethod
    def alone(cls, concurrency: int) -> Queues:
        return cls((BUILDS,), concurrency)

    @classmethod
    def shared(cls, name: str, capabilities: tuple[str, ...], *, concurrency: int, overall: int) -> Queues:
        """A worker with a name; without capabilities it only keeps the time."""
        own = (*capabilities, own_queue(name)) if capabilities and concurrency else ()
        return cls(own, concurrency if own else 0, CAPABILITIES, overall, is_shared=True)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(parts_queue(name) for name in self.builds)

    @property
    def runs(self) -> tuple[str, ...]:
        return (*self.builds, *self.parts)

    @property
    def listened(self) -> tuple[str, ...]:
        return (*self.runs, TIMERS)

    def declare(self) -> None:
        """Have the journal know the queues. DBOS is launched."""
        for name in dict.fromkeys((*self.declared, *self.builds)):
            _declare(name, 1 if self.is_shared else self.concurrency, overall=self.overall or None)
            _declare(parts_queue(name), 1 if self.is_shared else PARTS_AT_ONCE)
        DBOS.register_queue(TIMERS, polling_interval_sec=_TIMER_POLL_SECONDS, on_conflict="always_update")

    @property
    def places(self) -> Mapping[str, tuple[str, int]]:
        """For Places: builds share their number over all queues, each queue of parts has its own."""
        builds = dict.fromkeys(self.builds, (BUILDS, self.concurrency))
        return builds | {name: (name, PARTS_AT_ONCE) for name in self.parts}

    def rest_before_looks(self, system: Any, rest: Callable[[str], None]) -> None:
        """Have the threads of these queues look when `rest` returns; `system` is DBOS's database.

        Such a thread reads the row of its queue, waits for the interval that stands there, and looks for work.
        """
        read, runs = system.get_queue, frozenset(self.runs)

        def get_queue(name: str, **options: Any) -> Any:
            # enqueueing reads the row as well, and must not wait
            if name not in runs or threading.current_thread().name != f"queue-worker-{name}":
                return read(name, **options)
            rest(name)
            queue = read(name, **options)
            if queue is not None:
                queue._polling_interval_sec = _LOOK_SECONDS
                # the limit that stands there is for the looks before these; Places say how many when runs are taken
                queue._worker_concurrency = None
            return queue

        system.get_queue = get_queue


def _declare(name: str, at_once: int, *, overall: int | None = None) -> None:
    DBOS.register_queue(
        name, worker_concurrency=at_once, global_concurrency=overall, polling_interval_sec=_POLL_SECONDS,
        on_conflict="always_update",
    )  # fmt: skip


def own_queue(worker: str) -> str:
    """The queue of the runs that only one worker can go on with."""
    return f"@{worker}"


def parts_queue(queue: str) -> str:
    return PARTS if queue == BUILDS else f"{queue}.parts"


def queue_of(key: str, builds: str = BUILDS) -> str:
    """Where a run waits: with the builds of a queue, or with the parts."""
    return parts_queue(builds) if is_part(key) else builds


def capability(kind: str) -> str:
    """What a worker needs for a build of a kind."""
    return "machine.x86_64" if kind == "machine" else "container.x86_64"
