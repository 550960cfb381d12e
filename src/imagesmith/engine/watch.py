"""A thread that keeps a process known to the others, and looks after those that fell silent.

Each tick: say that we live, hear which of our runs are to stop. Every second, once we were heard ourselves for as
long as anybody may be silent (a database that was away made all of us silent): give up the silent, take over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from imagesmith.engine.membership import Membership
from imagesmith.store.database import StoreUnavailable

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Duties:
    """What the thread has the engine do."""

    stop_run: Callable[[str], object]
    rejoin: Callable[[], None]
    take_over: Callable[[], object]


class Watch:
    """One per process that shares a database."""

    def __init__(self, membership: Membership, duties: Duties) -> None:
        self._membership = membership
        self._duties = duties
        self._ended = threading.Event()
        self._only_beat = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)
        self._tick_seconds = min(_TICK_SECONDS, membership.limit_seconds / 6)
        self._heard_since: float | None = None
        self._looked = 0.0

    def start(self) -> None:
        self._thread.start()

    def only_beat(self) -> None:
        """Look after nobody else: the engine is about to end."""
        self._only_beat.set()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._tick_seconds):
            try:
                self._tick(time.monotonic())
            except (StoreUnavailable, sa.exc.DBAPIError) as error:
                if self._heard_since is not None:
                    _log.warning("the database does not hear this worker: %s", error)
                self._heard_since = None
            except Exception:
                _log.error("looking after the workers failed in an unexpected way", exc_info=True)

    def _tick(self, now: float) -> None:
        beat = self._membership.beat()
        if beat.gone and not self._only_beat.is_set():
            _log.warning("this worker was silent for too long: others go on with its runs, it begins anew")
            self._duties.rejoin()
            self._heard_since = None
            return
        for key in beat.cancelled:
            self._duties.stop_run(key)
        if self._heard_since is None:
            self._heard_since = now
        if self._only_beat.is_set() or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if now - self._heard_since >= self._membership.limit_seconds:
            for worker, keys in self._membership.end_silent():
                _log.warning(
                    "worker %s (%s, process %s) is silent for more than %g s; it had %d runs",
                    worker.name, worker.host, worker.pid, self._membership.limit_seconds, len(keys),
                )  # fmt: skip
        self._duties.take_over()
