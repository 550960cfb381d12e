"""This process among those that share a database: its row, its heartbeat, and the runs that it holds.

    join -> beat, beat, ... -> drain -> leave
              '--> gone: others were told that this process is dead, so it must stop all it does and join anew

What DBOS journals is safe by itself: it refuses the steps of a process that a workflow was taken from. The fences
here do the same for our own tables and for what is visible outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from imagesmith.engine.queues import capability, own_queue, queue_of
from imagesmith.store import runs, workers
from imagesmith.store.database import Database, StoreBusy
from imagesmith.store.runs import Fence
from imagesmith.store.workers import StoredWorker
from imagesmith.workflows.journal import image_of, part_of

_PATIENCE_SECONDS = 0.1


@dataclass(frozen=True)
class Beat:
    """What a process hears when it says that it lives."""

    gone: bool
    """It was given up; whatever it still does is refused."""
    cancelled: tuple[str, ...] = ()
    """Its runs that somebody asked to stop."""


class Membership:
    """The side of the database; every method raises StoreUnavailable. Safe for several threads."""

    def __init__(
        self, database: Database, worker: StoredWorker, *, limit_seconds: float, new_id: Callable[[], str]
    ) -> None:
        """`worker` has no id yet; it gets a new one whenever it joins. `limit_seconds`: the longest silence."""
        self._database = database
        self._worker = worker
        self._new_id = new_id
        self.limit_seconds = limit_seconds

    @property
    def name(self) -> str:
        return self._worker.name

    @property
    def id(self) -> str:
        return self._worker.id

    def join(self) -> str:
        """Become known under a new id. Raises WorkerNameTaken."""
        self._worker = replace(self._worker, id=self._new_id(), state="alive")
        with self._database.write("workers") as tx:
            workers.join(tx, self._worker, limit_seconds=self.limit_seconds)
        return self._worker.id

    def beat(self) -> Beat:
        with self._database.write(f"worker {self.id}") as tx:
            state = workers.beat(tx, self.id)
            return Beat(state == "gone", tuple(runs.asked_to_cancel(tx, self.id)))

    def drain(self) -> None:
        with self._database.write(f"worker {self.id}") as tx:
            workers.drain(tx, self.id)

    def leave(self) -> None:
        """Give every run away at once, instead of after a silence."""
        with self._database.write("workers") as tx:
            workers.end(tx, self.id)

    def claim(self, key: str, worker: str) -> Fence | None:
        """The right to carry a run on, for this process under an id; None when it was given up."""
        with self._database.write(f"run {key}") as tx:
            return runs.claim(tx, key, image_of(key), worker)

    def release(self, fence: Fence) -> None:
        with self._database.write(f"run {fence.key}") as tx:
            runs.release(tx, fence)

    def ask_to_cancel(self, key: str) -> None:
        with self._database.write(f"run {key}") as tx:
            runs.ask_to_cancel(tx, key)

    def first_queues(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Where new runs are to wait: for any worker that can do them."""
        with self._database.read() as tx:
            kinds = runs.kinds_of(tx, {image_of(key) for key in keys})
        return {key: queue_of(key, capability(kinds.get(image_of(key), ""))) for key in keys}

    def queue_of(self, key: str) -> str:
        """Where a run is to wait: for the worker that has its instance, else for any that can do it."""
        image_arn = image_of(key)
        with self._database.read() as tx:
            home = runs.home_of(tx, image_arn, part_of(key))
            kinds = {} if home else runs.kinds_of(tx, [image_arn])
        return queue_of(key, own_queue(home) if home else capability(kinds.get(image_arn, "")))

    def end_silent(self) -> list[tuple[StoredWorker, list[str]]]:
        """Give up the workers that are silent for too long: who they were, and the keys of their runs."""
        with self._database.write("workers") as tx:
            return workers.end_silent(tx, limit_seconds=self.limit_seconds)

    @contextmanager
    def sole(self, what: str) -> Iterator[bool]:
        """Whether this process alone does something until the end.

        The transaction is only a lock, and ends by itself should this process be frozen (store.database).
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._database.write(what, patience=_PATIENCE_SECONDS))
            except StoreBusy:
                yield False
                return
            yield True

    def ids(self) -> tuple[set[str], set[str]]:
        """The ids of the processes that live, and of those that are gone."""
        with self._database.read() as tx:
            return workers.ids(tx)

    def names(self) -> tuple[set[str], set[str]]:
        """The names of the workers that take work, and of the others."""
        with self._database.read() as tx:
            return workers.names(tx)
