"""The heartbeat thread of a process, which also expires silent workers and takes over their runs.

Each tick: write the heartbeat, read which of our runs are to be cancelled. Every second, once our own heartbeats
have succeeded for a whole lease (an outage of the database silences all workers): expire silent workers, take over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from imagesmith.engine.membership import Membership
from imagesmith.periodic import Periodic
from imagesmith.store.database import StoreUnavailable
from imagesmith.store.outage import is_outage

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class HeartbeatCallbacks:
    """Callbacks of the engine for the heartbeat thread."""

    stop_run: Callable[[str], object]
    rejoin: Callable[[], None]
    take_over: Callable[[], object]


class HeartbeatThread:
    """The heartbeat of one process that shares a database."""

    def __init__(self, membership: Membership, callbacks: HeartbeatCallbacks) -> None:
        self._membership = membership
        self._callbacks = callbacks
        self._only_heartbeat = threading.Event()
        self._rounds = Periodic(
            "engine-watch", self._heartbeat, seconds=min(_TICK_SECONDS, membership.limit_seconds / 6),
            failing="the heartbeat of this worker failed", expected=is_outage,
        )  # fmt: skip
        self._heard_since: float | None = None
        self._looked = 0.0

    def start(self) -> None:
        self._rounds.start()

    def only_heartbeat(self) -> None:
        """Stop expiring and taking over: the engine is about to end."""
        self._only_heartbeat.set()

    def stop(self) -> None:
        self._rounds.stop()

    def _heartbeat(self) -> None:
        try:
            self._tick(time.monotonic())
        except (StoreUnavailable, sa.exc.SQLAlchemyError):
            self._heard_since = None
            raise

    def _tick(self, now: float) -> None:
        heartbeat = self._membership.heartbeat()
        if heartbeat.gone and not self._only_heartbeat.is_set():
            _log.warning(
                "the lease expired: other workers took over the runs of this one, which joins again under a new id"
            )
            self._callbacks.rejoin()
            self._heard_since = None
            return
        for key in heartbeat.cancelled:
            self._callbacks.stop_run(key)
        if self._heard_since is None:
            self._heard_since = now
        if self._only_heartbeat.is_set() or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if now - self._heard_since >= self._membership.limit_seconds:
            for worker, keys in self._membership.expire_silent_workers():
                _log.warning(
                    "worker %s (%s, process %s) is silent for more than %g s; it had %d runs",
                    worker.name, worker.host, worker.pid, self._membership.limit_seconds, len(keys),
                )  # fmt: skip
        self._callbacks.take_over()
