"""Membership of this process among those that share a database: its row, its heartbeat, and its claims.

    join -> beat, beat, ... -> drain -> leave
              '--> gone: its lease was revoked, so it must stop all its runs and join again

DBOS protects its own journal: it refuses the steps of a process that lost the workflow. The fences here do the same
for our own tables and for effects that are visible outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from imagesmith.builds.journal import child_of, image_of
from imagesmith.engine.queues import capability, own_queue, queue_of
from imagesmith.store import runs, workers
from imagesmith.store.database import Database, StoreBusy
from imagesmith.store.runs import Fence
from imagesmith.store.workers import StoredWorker

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.1


@dataclass(frozen=True)
class HeartbeatResult:
    """The answer to a heartbeat."""

    gone: bool
    """Its lease was revoked; its writes are refused."""
    cancelled: tuple[str, ...] = ()
    """Its runs whose cancel was requested."""


class Membership:
    """The database side of a membership; every method raises StoreUnavailable. Thread-safe."""

    def __init__(
        self, database: Database, worker: StoredWorker, *, limit_seconds: float, new_id: Callable[[], str]
    ) -> None:
        """`worker` has no id yet; each join() assigns one. `limit_seconds`: the longest time without heartbeats."""
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
        """Register this process under a new id. Raises WorkerNameTaken."""
        self._worker = replace(self._worker, id=self._new_id(), state="alive")
        with self._database.write("workers") as tx:
            workers.join(tx, self._worker, limit_seconds=self.limit_seconds)
            differing = workers.other_zone_data(tx, self._worker)
        for other in differing:
            _log.warning(
                "%s on %s has time zones of %s, this process those of %s: schedules fire differently; install the "
                "same version on both and restart",
                other.name, other.host, other.zone_data, self._worker.zone_data,
            )  # fmt: skip
        return self._worker.id

    def heartbeat(self) -> HeartbeatResult:
        with self._database.write(f"worker {self.id}") as tx:
            state = workers.heartbeat(tx, self.id)
            return HeartbeatResult(state == "gone", tuple(runs.cancel_requested(tx, self.id)))

    def drain(self) -> None:
        with self._database.write(f"worker {self.id}") as tx:
            workers.drain(tx, self.id)

    def leave(self) -> None:
        """Release all runs at once, instead of after the lease."""
        with self._database.write("workers") as tx:
            workers.end(tx, self.id)

    def claim(self, key: str, worker: str) -> Fence | None:
        """Claim a run for this process under an id; None when the lease of that id was revoked."""
        with self._database.write(f"run {key}") as tx:
            return runs.claim(tx, key, image_of(key), worker)

    def release(self, fence: Fence) -> None:
        with self._database.write(f"run {fence.key}") as tx:
            runs.release(tx, fence)

    def request_cancel(self, key: str) -> None:
        with self._database.write(f"run {key}") as tx:
            runs.request_cancel(tx, key)

    def first_queues(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The queues for new runs, which any capable worker may claim."""
        with self._database.read() as tx:
            kinds = runs.kinds_of(tx, {image_of(key) for key in keys})
        return {key: queue_of(key, capability(kinds.get(image_of(key), ""))) for key in keys}

    def queue_of(self, key: str) -> str:
        """The queue for a run: of the worker that has its instance, else of all capable workers."""
        image_arn = image_of(key)
        with self._database.read() as tx:
            home = runs.worker_with_instance(tx, image_arn, child_of(key))
            kinds = {} if home else runs.kinds_of(tx, [image_arn])
        return queue_of(key, own_queue(home) if home else capability(kinds.get(image_arn, "")))

    def expire_silent_workers(self) -> list[tuple[StoredWorker, list[str]]]:
        """Revoke the leases of silent workers; returns these workers, each with the keys of its runs."""
        with self._database.write("workers") as tx:
            return workers.expire_silent_workers(tx, limit_seconds=self.limit_seconds)

    @contextmanager
    def exclusive(self, what: str) -> Iterator[bool]:
        """Lock a duty for this process until the context ends; yields whether it got the lock.

        The transaction serves only as a lock; the database ends it if this process freezes (store.database).
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._database.write(what, patience=_PATIENCE_SECONDS))
            except StoreBusy:
                yield False
                return
            yield True

    def ids(self) -> tuple[set[str], set[str]]:
        """The ids of living processes, and of those that are gone."""
        with self._database.read() as tx:
            return workers.ids(tx)

    def names(self) -> tuple[set[str], set[str]]:
        """The names of the workers that claim runs, and of the others."""
        with self._database.read() as tx:
            return workers.names(tx)
