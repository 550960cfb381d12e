"""The engine of this process: durable workflows on DBOS, from launch to shutdown.

    EngineProcess      launch, executor id, lease and heartbeat, drain, close     this module
    RunQueue           start, cancel, wake                                        engine/run_queue.py
    RunExecution       the workflow function: claim, steps, waits                 engine/run_execution.py
    ActiveRuns         the runs of this process, which the three share            engine/active_runs.py

- A process that dies leaves its workflows PENDING in the journal; the next launch continues each of them after the
  last step that ended.
- close() interrupts running steps; their builds continue after the next launch.
- DBOS keeps one instance per process; so does this class (a second launch() raises).
- With a membership several processes share the journal (engine/membership.py). A process whose lease was revoked
  loses its runs and launches DBOS again under a new executor id.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from imagesmith.engine import dbos_private
from imagesmith.engine.active_runs import ActiveRuns
from imagesmith.engine.background_retries import AWAY, RETRY_SECONDS, BackgroundRetries
from imagesmith.engine.dbos_import import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from imagesmith.engine.heartbeat import HeartbeatCallbacks, HeartbeatThread
from imagesmith.engine.journal_database import open_journal, waiting_queues
from imagesmith.engine.membership import Membership
from imagesmith.engine.queue_poller import QueuePoller
from imagesmith.engine.queues import TIMERS, Queues
from imagesmith.engine.run_execution import Program, RunExecution
from imagesmith.engine.run_queue import JOURNAL_VERSION, RUN_WORKFLOW, TIMER_WORKFLOW, Launch, RunQueue
from imagesmith.engine.slots import Slots
from imagesmith.engine.takeover import take_over
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.retries import Failure, constant, retrying
from imagesmith.store.outage import StoreUnavailable, outage
from imagesmith.store.workers import WorkerNameTaken

_log = logging.getLogger(__name__)

_APPLICATION: Final = "imagesmith"
_RECOVERY_ATTEMPTS: Final = 100
_REJOIN_SECONDS: Final = 60.0
_REJOIN_SHUT_SECONDS: Final = 5.0
_DRAIN_SECONDS: Final = 0.1
_CLOSING_SECONDS: Final = 0.05
_LISTENER_SECONDS: Final = 0.2


class EngineProcess:
    """The life cycle of the engine; `queue` starts, cancels and wakes runs between launch() and close()."""

    def __init__(
        self,
        journal_url: str,
        program: Program,
        *,
        concurrency: int,
        executor_id: str = "local",
        wait_for_disk_space: Callable[[Cancellation], None] = lambda _: None,
        membership: Membership | None = None,
        queues: Queues | None = None,
    ) -> None:
        """`wait_for_disk_space` is called before each write of the journal and may wait for free space.

        `membership`: set when several processes share the journal; `queues` then lists the queues of this process.
        """
        self._journal_url = journal_url
        self._program = program
        self._queues = queues or Queues.alone(concurrency)
        self._executor_id = executor_id
        self._wait_for_disk_space = wait_for_disk_space
        self._membership = membership
        self._heartbeat: HeartbeatThread | None = None
        self._draining = False
        self._active = ActiveRuns()
        self._retries = BackgroundRetries(self._active.stopping, wait_for_disk_space)
        self.queue = RunQueue(self._active, self._retries, membership=membership)
        self._dbos: DBOS | None = None
        self._journal: sa.Engine | None = None
        self._poller: QueuePoller | None = None

    @property
    def running(self) -> int:
        """How many runs this process is executing."""
        return len(self._active)

    def launch(self) -> None:
        """Open the journal and resume interrupted builds.

        Raises WorkerNameTaken, IncompatibleDBOS, StoreUnavailable.
        """
        try:
            self._open()
        except sa.exc.SQLAlchemyError as error:
            file = make_url(self._journal_url).database if self._journal_url.startswith("sqlite") else None
            unavailable = outage(error, file=Path(file) if file else None)
            if unavailable is None:
                raise
            raise unavailable from error
        if self._membership is not None:
            callbacks = HeartbeatCallbacks(
                self._active.cancel, self._rejoin, partial(take_over, self._membership, timer=TIMER_WORKFLOW)
            )
            self._heartbeat = HeartbeatThread(self._membership, callbacks)
            self._heartbeat.start()

    def drain(self, is_over: Callable[[], bool]) -> None:
        """Claim no new runs and wait until all runs ended or `is_over` returns True; call close() next."""
        self._draining = True
        time.sleep(_DRAIN_SECONDS)  # a poll that is under way may still claim a run
        if self._membership is not None:
            self.queue.run_or_retry(self._membership.drain, "saying that this worker drains")
        while self.running and not is_over():
            time.sleep(_DRAIN_SECONDS)

    def close(self, *, patience_seconds: int = 20) -> None:
        """Interrupt all runs, wait for their clean-up, and close the journal."""
        if self._heartbeat is not None:
            self._heartbeat.only_heartbeat()
        self._active.stop()
        if self._dbos is not None:
            self._retries.join()
            self._shut(self._dbos, patience_seconds)
            self._dbos = None
        self.queue.disconnect()
        if self._journal is not None:
            self._journal.dispose()
        if self._heartbeat is not None and self._membership is not None:
            self._heartbeat.stop()
            with contextlib.suppress(StoreUnavailable):
                self._membership.leave()

    def _open(self) -> None:
        if self._journal is not None:
            self._journal.dispose()
        executor = self._executor_id if self._membership is None else self._membership.join()
        serializer = DBOSPortableJSONSerializer()
        config: DBOSConfig = {
            "name": _APPLICATION,
            "application_version": JOURNAL_VERSION,
            "executor_id": executor,
            "serializer": serializer,
            "log_level": "ERROR",
            # notifications are not used here; closing waits for this interval
            "notification_listener_polling_interval_sec": _LISTENER_SECONDS,
        }
        self._journal = open_journal(self._journal_url, config)
        self._dbos = DBOS(config=config)
        client = DBOSClient(
            system_database_engine=self._journal, dbos_system_schema=config.get("dbos_system_schema"),
            serializer=serializer, application_name=_APPLICATION, lazy=True,
        )  # fmt: skip
        slots = Slots(self._queues.slots, is_open=lambda: not self._draining)
        poller = self._poller = QueuePoller(self._queues.runs, has_room=slots.has_room)
        run, timer = self._workflows(executor, slots, poller)
        self.queue.connect(
            Launch(run_workflow=run, timer_workflow=timer, client=client, journal=self._journal, poller=poller)
        )
        if self._membership is not None:
            DBOS.listen_queues(self._queues.listened)
        DBOS.launch()
        dbos_private.check(self._dbos)
        dbos_private.limit_claims(self._dbos, slots.claim_limit)
        dbos_private.wait_before_polls(self._dbos, self._queues.runs, poller.wait)
        self._queues.declare()
        dbos_private.check_queue(self._dbos, TIMERS)
        if self._membership is not None:
            take_over(self._membership, timer=TIMER_WORKFLOW, everything=True)
            if self._queues.runs:
                poller.watch(waiting_queues(self._journal, self._queues.runs))
        self.queue.set_ready()

    def _workflows(
        self, executor: str, slots: Slots, poller: QueuePoller
    ) -> tuple[Callable[[str], str], Callable[[str], str]]:
        """The functions of a run and of a timer, registered with DBOS."""
        execution = RunExecution(
            self._program, self.queue, self._active, self._retries,
            executor=executor, wait_for_disk_space=self._wait_for_disk_space, membership=self._membership,
        )  # fmt: skip

        def run(key: str) -> str:
            try:
                with slots.running(key):
                    return execution.run(key)
            finally:
                poller.notify_end()

        def timer(key: str) -> str:
            self.queue.wake(key)
            return key

        return (
            DBOS.workflow(name=RUN_WORKFLOW, max_recovery_attempts=_RECOVERY_ATTEMPTS)(run),
            DBOS.workflow(name=TIMER_WORKFLOW, max_recovery_attempts=_RECOVERY_ATTEMPTS)(timer),
        )

    def _rejoin(self) -> None:
        """Drop all runs, which others may take over, and join again after the lease of this process expired."""
        self.queue.hold()
        self._active.lose()
        until = time.monotonic() + _REJOIN_SECONDS
        while self.running and time.monotonic() < until:
            time.sleep(_DRAIN_SECONDS)

        def open_again() -> None:
            if self._dbos is not None:
                self._shut(self._dbos, _REJOIN_SHUT_SECONDS)
                self._dbos = None
            self._open()

        def again(failure: Failure) -> bool:
            _log.warning("this worker cannot rejoin (%s); trying again", failure.error)
            return isinstance(failure.error, (*AWAY, WorkerNameTaken))

        with contextlib.suppress(Cancelled):
            retrying(open_again, retry=again, backoff=constant(RETRY_SECONDS), cancellation=self._active.stopping)

    def _shut(self, dbos: DBOS, patience_seconds: float) -> None:
        """Stop DBOS's threads, wait for running workflows, and destroy DBOS, whose own wait takes whole seconds."""
        dbos_private.stop_background_threads(dbos)
        if self._poller is not None:
            self._poller.close()
        until = time.monotonic() + patience_seconds
        while dbos_private.active_workflows(dbos) and time.monotonic() < until:
            time.sleep(_CLOSING_SECONDS)
        DBOS.destroy(destroy_registry=True)
