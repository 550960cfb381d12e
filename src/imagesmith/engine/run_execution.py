"""The workflow function: claims a run and calls its program with a journal.

    program(key, journal) --> [step] -> [step] -> ... each box is journalled
                     |
                     '-- wait: nothing to do yet -> parked, until wake(key) or the timer of the wait

- A step that was interrupted runs again from its beginning.
- A wait does not use DBOS.recv, which holds a thread and one of the few slots of the queue for up to seven days.
  A parked run leaves the queue; the replay after a wake reaches the wait again within milliseconds.
- A stopping process raises Interrupted out of running steps. DBOS journals only Exceptions, so such a step counts
  as not ended and the build continues after the next launch.
- A journal that cannot be written (full disk, unavailable database) ends the workflow's thread; the run is enqueued
  again as soon as possible, and continues as after a restart.
- With a membership a run begins with a claim (engine/membership.py), and a run whose claim was revoked stops at its
  next write, journalled or not.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial

from imagesmith.builds.journal import Journal, Json, Poll, Work
from imagesmith.engine.active_runs import ActiveRun, ActiveRuns, Interrupted
from imagesmith.engine.background_retries import RETRY_SECONDS, BackgroundRetries
from imagesmith.engine.membership import Membership
from imagesmith.engine.run_journal import JournalUnavailable, RunJournal
from imagesmith.engine.run_queue import RunQueue, outside_workflow
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.store.outage import StoreAway, StoreUnavailable, is_outage
from imagesmith.store.runs import Fence, FenceLost

_log = logging.getLogger(__name__)

Program = Callable[[str, Journal], None]
"""Executes the run of a key; raises only errors of its journal."""


class RunExecution:
    """Executes runs under one executor id."""

    def __init__(
        self,
        program: Program,
        queue: RunQueue,
        active: ActiveRuns,
        retries: BackgroundRetries,
        *,
        executor: str,
        wait_for_disk_space: Callable[[Cancellation], None],
        membership: Membership | None = None,
    ) -> None:
        self._program = program
        self._queue = queue
        self._active = active
        self._retries = retries
        self._executor = executor
        self._wait_for_disk_space = wait_for_disk_space
        self._membership = membership

    def run(self, key: str) -> str:
        """The workflow function. Raises Interrupted if the run did not end."""
        run = self._active.add(key)
        try:
            run.fence = self._claim(key)
            journal = RunJournal(
                runs=self._queue, fence=run.fence, do=partial(self._do, run), poll=partial(self._poll, key, run),
                wait_for_store=partial(self._pause, run),
            )  # fmt: skip
            self._program(key, journal)
        except (JournalUnavailable, StoreAway) as error:
            resume = partial(self._queue.resume_own, key, self._executor)
            self._retries.begin(resume, f"continuing {key}", error.__cause__ or error)
            raise Interrupted from error
        except FenceLost as error:
            _log.warning("%s", error)
            raise Interrupted from error
        finally:
            self._active.remove(key, run)
            self._release(run)
        return "over"

    def _claim(self, key: str) -> Fence | None:
        """Claim a run; None without a membership. Raises FenceLost, JournalUnavailable."""
        if self._membership is None:
            return None
        try:
            fence = self._membership.claim(key, self._executor)
        except StoreUnavailable as error:
            raise JournalUnavailable(str(error)) from error
        if fence is None:
            raise FenceLost(f"another process took over {key}: the lease of this worker expired")
        return fence

    def _release(self, run: ActiveRun) -> None:
        if self._membership is not None and run.fence is not None and not run.lost:
            with contextlib.suppress(StoreUnavailable):
                self._membership.release(run.fence)

    def _do(self, run: ActiveRun, work: Work, is_cancellable: bool) -> Json:
        """Execute a step with a cancellation that this engine can request."""
        cancellation = run.cancellation if is_cancellable else self._active.stopping

        def work_with_disk_space() -> Json:
            result = work(cancellation)
            self._wait_for_disk_space(cancellation)
            return {"result": result}

        return self._outcome(run, work_with_disk_space)

    def _outcome(self, run: ActiveRun, work: Callable[[], Json]) -> Json:
        """The journal entry of work that ended: its result, a cancel, or its error."""
        try:
            return work()
        except Cancelled:
            if run.lost:
                raise FenceLost("another process took over this run") from None
            if self._active.stopping.requested:
                raise Interrupted from None
            return {"cancelled": True}
        except Exception as error:
            if is_outage(error):
                # an outage does not end a step: the step is repeated when the database is back
                raise StoreAway(str(error)) from error
            _log.error("a step failed in an unexpected way", exc_info=True)
            return {"error": f"{type(error).__name__}: {error}"}

    def _pause(self, run: ActiveRun) -> None:
        """Wait a moment for the database to come back. Raises Interrupted, FenceLost."""
        if run.lost:
            raise FenceLost("another process took over this run")
        try:
            self._wait_for_disk_space(self._active.stopping)
        except Cancelled:
            raise Interrupted from None
        if self._active.stopping.wait(RETRY_SECONDS):
            raise Interrupted

    def _poll(self, key: str, run: ActiveRun, name: str, poll: Poll, seconds: float) -> Json:
        """The result of `poll`; parks the run while that is None."""
        while True:
            self._active.begin_poll(run)
            outcome = self._outcome(run, lambda: {"result": poll(run.cancellation)})
            if outcome.get("result", True) is not None:
                return outcome
            self._park(key, name, run, poll, seconds)

    def _park(self, key: str, name: str, run: ActiveRun, poll: Poll, seconds: float) -> None:
        """Leave the engine unless the run was woken meanwhile; repeated waits set the timer once."""
        outside_workflow(self._queue.wake_later, key, f"{key}@{name}", seconds)
        if not self._active.park(key, run, leave=partial(outside_workflow, self._queue.remove, key)):
            return
        # a wake from another process did nothing while the run was active; it wrote first, so this poll sees it
        if self._membership is not None:
            outcome = self._outcome(run, lambda: {"result": poll(run.cancellation)})
            if outcome.get("result", True) is not None:
                outside_workflow(self._queue.wake_once, key)
        raise Interrupted
