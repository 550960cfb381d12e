"""The queues that builds wait in.

    one process        builds, parts
    several hosts      container.x86_64, machine.x86_64           workers with this capability
                       container.x86_64.parts, ...                members of parallel groups
                       @<worker>, @<worker>.parts                 runs whose instance is on that worker
    always             timers

engine/slots.py decides how many runs a process claims, engine/queue_poller.py when it polls a queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imagesmith.builds.journal import takes_no_slot
from imagesmith.engine.dbos_import import DBOS
from imagesmith.recipes.kinds import CONTAINER, IMAGE_KINDS

BUILDS: Final = "builds"
PARTS: Final = "parts"
TIMERS: Final = "timers"
CAPABILITIES: Final = tuple(kind.capability for kind in IMAGE_KINDS.values())
PARTS_AT_ONCE: Final = 5
_STORED_POLL_SECONDS: Final = 0.2
_TIMER_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Queues:
    """The queues of one process."""

    builds: tuple[str, ...]
    concurrency: int
    declared: tuple[str, ...] = ()
    """Queues of builds that other processes may poll: enqueueing needs every queue to be declared."""
    overall: int = 0
    """Greatest number of builds of one queue on all workers together; 0: no limit."""
    is_shared: bool = False

    @classmethod
    def alone(cls, concurrency: int) -> Queues:
        return cls((BUILDS,), concurrency)

    @classmethod
    def shared(cls, name: str, capabilities: tuple[str, ...], *, concurrency: int, overall: int) -> Queues:
        """The queues of a named worker; without capabilities it only runs timers."""
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
        """Register the queues in the journal. DBOS must be launched."""
        for name in dict.fromkeys((*self.declared, *self.builds)):
            _declare(name, 1 if self.is_shared else self.concurrency, overall=self.overall or None)
            _declare(parts_queue(name), 1 if self.is_shared else PARTS_AT_ONCE)
        DBOS.register_queue(TIMERS, polling_interval_sec=_TIMER_POLL_SECONDS, on_conflict="always_update")

    @property
    def slots(self) -> Mapping[str, tuple[str, int]]:
        """Limits for Slots: builds share one limit over all queues, each queue of parts has its own."""
        builds = dict.fromkeys(self.builds, (BUILDS, self.concurrency))
        return builds | {name: (name, PARTS_AT_ONCE) for name in self.parts}


def _declare(name: str, stored_limit: int, *, overall: int | None = None) -> None:
    """Store a queue; of its row, this process follows only `overall` (engine/slots.py, engine/queue_poller.py)."""
    DBOS.register_queue(
        name, worker_concurrency=stored_limit, global_concurrency=overall,
        polling_interval_sec=_STORED_POLL_SECONDS, on_conflict="always_update",
    )  # fmt: skip


def own_queue(worker: str) -> str:
    """The queue of runs that only this worker can continue."""
    return f"@{worker}"


def parts_queue(queue: str) -> str:
    return PARTS if queue == BUILDS else f"{queue}.parts"


def queue_of(key: str, builds: str = BUILDS) -> str:
    """The queue of a run: a queue of builds, or its queue of parts and other short work."""
    return parts_queue(builds) if takes_no_slot(key) else builds


def capability(kind: str) -> str:
    """The capability that a worker needs for a build of a kind."""
    return IMAGE_KINDS.get(kind, CONTAINER).capability
