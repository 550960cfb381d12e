"""The queue of runs in the journal: enqueues, wakes and cancels them by their keys.

- The workflow id is the run's key, so repeated calls of start() start a run once.
- A parked workflow is CANCELLED in DBOS's words, which removes it from the queue; waking resumes it. The timer of a
  wait is a delayed workflow.
- While the journal is unavailable, calls are retried in the background.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from imagesmith.engine.active_runs import ActiveRuns
from imagesmith.engine.background_retries import AWAY, BackgroundRetries
from imagesmith.engine.dbos_import import DBOS, DBOSClient, EnqueueOptions, SetEnqueueOptions, SetWorkflowID
from imagesmith.engine.membership import Membership
from imagesmith.engine.queue_poller import QueuePoller
from imagesmith.engine.queues import TIMERS, queue_of

JOURNAL_VERSION: Final = "imagesmith-2"
"""DBOS's application version: only builds journalled under the same number are resumed."""
RUN_WORKFLOW: Final = "build"
TIMER_WORKFLOW: Final = "timer"
_READY_SECONDS: Final = 60.0
_PARKED: Final = "CANCELLED"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What one launch of DBOS made; another launch follows if the process has to join again."""

    run_workflow: Callable[[str], str]
    timer_workflow: Callable[[str], str]
    client: DBOSClient
    journal: sa.Engine
    poller: QueuePoller


class RunQueue:
    """Builder on DBOS. Thread-safe."""

    def __init__(
        self, active: ActiveRuns, retries: BackgroundRetries, *, membership: Membership | None = None
    ) -> None:
        self._active = active
        self._retries = retries
        self._membership = membership
        self._launch: Launch | None = None
        self._ready = threading.Event()

    def connect(self, launch: Launch) -> None:
        """Use a launch of DBOS; calls wait until set_ready()."""
        self._launch = launch

    def set_ready(self) -> None:
        self._ready.set()

    def hold(self) -> None:
        """Make calls wait for the next set_ready()."""
        self._ready.clear()

    def disconnect(self) -> None:
        """The process stops; start() raises RuntimeError from now on."""
        self._launch = None

    def start(self, key: str) -> None:
        """Enqueue a run under its key; nothing changes when the run is enqueued or done already.

        While the journal is unavailable, the call is retried in the background.
        """
        self._launched()
        self.run_or_retry(partial(self._enqueue, key), f"enqueueing {key}")

    def start_many(self, keys: Sequence[str]) -> None:
        """start() for each, in one transaction of the journal: commits are most of the cost of enqueueing."""
        if len(keys) == 1:
            self.start(keys[0])
            return
        self._launched()
        self.run_or_retry(partial(self._enqueue_many, keys), f"enqueueing {len(keys)} runs from {keys[0]}")

    def cancel(self, key: str) -> None:
        """Cancel the run of a key, also in another process; a waiting run is woken and sees the cancel."""
        if not self._active.cancel(key) and self._membership is not None:
            self.run_or_retry(partial(self._membership.request_cancel, key), f"cancelling {key}")
        self.wake(key)

    def wake(self, key: str) -> None:
        """Make a waiting run check its condition again; unknown runs are ignored."""
        self.run_or_retry(partial(self.wake_once, key), f"waking {key}")

    def wake_once(self, key: str) -> None:
        """wake() without retries; call it outside of a workflow."""

        def resume_parked() -> None:
            status = DBOS.get_workflow_status(key)
            if status is not None and status.status == _PARKED:
                self._resume(key)

        self._active.wake(key, otherwise=resume_parked)

    def wake_later(self, key: str, timer: str, seconds: float) -> None:
        """Set a durable timer that wakes a run; nothing changes when the timer of this name is set already."""
        with SetWorkflowID(timer), SetEnqueueOptions(delay_seconds=seconds):
            DBOS.enqueue_workflow(TIMERS, self._launched().timer_workflow, key)

    def remove(self, key: str) -> None:
        """Take a run that parks from its queue."""
        DBOS.cancel_workflow(key)

    def resume_own(self, key: str, executor: str) -> None:
        """Enqueue a run again that ended early under an executor id, unless another process took it over."""
        status = DBOS.get_workflow_status(key)
        if self._membership is None or (status is not None and status.executor_id == executor):
            self._resume(key)

    def run_or_retry(self, action: Callable[[], object], what: str) -> None:
        """Call an action once the process is ready; retry it in the background while the journal is unavailable."""
        self._ready.wait(_READY_SECONDS)
        try:
            outside_workflow(action)
        except AWAY as error:
            self._retries.begin(action, what, error)

    def _launched(self) -> Launch:
        if self._launch is None:
            raise RuntimeError("a run can be started only between launch() and close()")
        return self._launch

    def _enqueue(self, key: str) -> None:
        launch = self._launched()
        queue = self._first_queues([key])[key]
        with SetWorkflowID(key):
            DBOS.enqueue_workflow(queue, launch.run_workflow, key)
        launch.poller.notify(queue)

    def _enqueue_many(self, keys: Sequence[str]) -> None:
        launch = self._launched()
        queues = self._first_queues(keys)
        with launch.journal.begin() as connection:
            for key in keys:
                options: EnqueueOptions = {
                    "workflow_name": RUN_WORKFLOW,
                    "queue_name": queues[key],
                    "workflow_id": key,
                    "app_version": JOURNAL_VERSION,
                }
                launch.client.enqueue_in_transaction(connection, options, key)
        launch.poller.notify(*set(queues.values()))

    def _resume(self, key: str) -> None:
        queue = queue_of(key) if self._membership is None else self._membership.queue_of(key)
        DBOS.resume_workflow(key, queue_name=queue)
        if self._launch is not None:
            self._launch.poller.notify(queue)

    def _first_queues(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The queues for new runs."""
        if self._membership is None:
            return {key: queue_of(key) for key in keys}
        return self._membership.first_queues(keys)


def outside_workflow(action: Callable[..., Any], *arguments: Any) -> None:
    """Call DBOS outside of any workflow context: within a step DBOS would make the call part of the step."""
    contextvars.Context().run(action, *arguments)
