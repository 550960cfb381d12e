"""Retries, in background threads, of calls that the journal could not accept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from imagesmith.engine.dbos_import import dbos_errors
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.retries import Failure, constant, retrying
from imagesmith.store.outage import StoreUnavailable

_log = logging.getLogger(__name__)

AWAY: Final = (sa.exc.SQLAlchemyError, StoreUnavailable)
"""Errors of the journal while it is unavailable."""
RETRY_SECONDS: Final = 1.0


class BackgroundRetries:
    """Thread-safe; all retries end when `stopping` is requested."""

    def __init__(self, stopping: Cancellation, wait_for_disk_space: Callable[[Cancellation], None]) -> None:
        self._stopping = stopping
        self._wait_for_disk_space = wait_for_disk_space
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def begin(self, action: Callable[[], object], what: str, reason: BaseException) -> None:
        """Retry a failed action in the background until it succeeds; returns at once."""
        _log.warning("%s failed (%s); retrying until it succeeds", what, reason)
        thread = threading.Thread(target=self._run, args=(action, what), name="engine-retry", daemon=True)
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for all threads; call it after `stopping` was requested."""
        with self._lock:
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()

    def _run(self, action: Callable[[], object], what: str) -> None:
        def attempt() -> None:
            self._wait_for_disk_space(self._stopping)
            action()

        def again(failure: Failure) -> bool:
            _log.debug("%s failed again: %s", what, failure.error)
            return isinstance(failure.error, (*AWAY, dbos_errors.DBOSException))

        self._stopping.wait(RETRY_SECONDS)
        with contextlib.suppress(Cancelled):
            retrying(attempt, retry=again, backoff=constant(RETRY_SECONDS), cancellation=self._stopping)
