"""Builds as durable workflows on DBOS.

    start(key) --> queue --> program(key, journal) --> [step] -> [step] -> ... each box is journalled
                     ^                |
                     |                +-- wait: nothing to do yet -> parked (CANCELLED in DBOS's words)
                     +---- wake(key), or the timer of the wait ----------------'

- The workflow id is the run's key, so a run is started once however often start() is called.
- A process that dies leaves the workflow PENDING in the journal; the next launch goes on from the last step that
  ended. The step that was under way runs again from its own beginning.
- A wait is not DBOS.recv: that holds a thread and one of the few places of the queue for as long as seven days.
  A parked workflow is cancelled, which takes it out of the queue; waking it resumes it, and the replay comes back
  to the wait within milliseconds. The timer is a delayed workflow.
- close() stops what runs by raising Interrupted out of the step. DBOS journals only Exceptions, so the step counts
  as never ended and the build goes on after the next launch.
- A journal that cannot be written (a full disk, a database that is away) ends the workflow's thread; the engine
  enqueues the build again as soon as it can, and it goes on like after a restart.
- DBOS keeps one instance per process; so does this class (a second launch() raises).
- With a membership several processes share the journal: a run begins with a claim (engine/membership.py), and one
  that was given up here stops at its next write, journalled or not.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa
from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    EnqueueOptions,
    SetEnqueueOptions,
    SetWorkflowID,
)
from dbos import error as dbos_errors

from imagesmith.engine.journal_database import open_journal, waiting_queues
from imagesmith.engine.lookout import Lookout
from imagesmith.engine.membership import Membership
from imagesmith.engine.places import Places
from imagesmith.engine.queues import TIMERS, Queues, queue_of
from imagesmith.engine.run_journal import JournalUnavailable, RunJournal
from imagesmith.engine.takeover import take_over
from imagesmith.engine.watch import Duties, Watch
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.store.database import StoreUnavailable
from imagesmith.store.runs import Fence, FenceLost
from imagesmith.store.workers import WorkerNameTaken
from imagesmith.workflows.journal import Journal, Json, Poll, Work

_log = logging.getLogger(__name__)

SCHEMA_NUMBER = "imagesmith-2"
"""What DBOS calls the application version: only builds journalled under the same number are taken up again."""

_APPLICATION, _WORKFLOW = "imagesmith", "build"
_RETRY_SECONDS = 1.0
_REJOIN_SECONDS = 60.0
_REJOIN_SHUT_SECONDS = 5.0
_DRAIN_SECONDS = 0.1
_CLOSING_SECONDS = 0.05
_LISTENER_SECONDS = 0.2
_PARKED = "CANCELLED"
_TIMER = "timer"
_AWAY = (sa.exc.DBAPIError, StoreUnavailable)

Program = Callable[[str, Journal], None]
"""Carries out the run of a key; raises nothing but what its journal raises."""


class Interrupted(BaseException):
    """The process is stopping, or the run is parked; the step counts as never run."""


@dataclass
class _Active:
    """A run that is in this process."""

    cancellation: Cancellation = field(default_factory=Cancellation)
    woken: bool = False
    lost: bool = False
    """Another process goes on with it."""
    fence: Fence | None = None


class DurableEngine:
    """Runs builds on this process; a Builder."""

    def __init__(
        self,
        journal_url: str,
        program: Program,
        *,
        concurrency: int,
        executor_id: str = "local",
        make_room: Callable[[Cancellation], None] = lambda _: None,
        membership: Membership | None = None,
        queues: Queues | None = None,
    ) -> None:
        """`make_room` is called before the journal is written: it may wait until there is space for that.

        `membership` is that of one of several processes on one journal; `queues` then says what it takes.
        """
        self._journal_url = journal_url
        self._program = program
        self._queues = queues or Queues.alone(concurrency)
        self._executor_id = executor_id
        self._membership = membership
        self._watch: Watch | None = None
        self._ready = threading.Event()
        self._draining = False
        self._lock = threading.Lock()
        self._active: dict[str, _Active] = {}
        self._make_room = make_room
        self._stopping = Cancellation()
        self._retries: list[threading.Thread] = []
        self._run_workflow: Callable[[str], str] | None = None
        self._timer_workflow: Callable[[str], str] | None = None
        self._dbos: DBOS | None = None
        self._journal: sa.Engine | None = None
        self._client: DBOSClient | None = None
        self._lookout: Lookout | None = None

    def launch(self) -> None:
        """Open the journal, take up interrupted builds and begin to work. Raises WorkerNameTaken."""
        self._open()
        if self._membership is not None:
            duties = Duties(self._stop_here, self._rejoin, partial(take_over, self._membership, timer=_TIMER))
            self._watch = Watch(self._membership, duties)
            self._watch.start()

    def _open(self) -> None:
        if self._journal is not None:
            self._journal.dispose()
        executor = self._executor_id if self._membership is None else self._membership.join()
        serializer = DBOSPortableJSONSerializer()
        config: DBOSConfig = {
            "name": _APPLICATION,
            "application_version": SCHEMA_NUMBER,
            "executor_id": executor,
            "serializer": serializer,
            "log_level": "ERROR",
            # nothing here waits for notifications; closing waits for this interval
            "notification_listener_polling_interval_sec": _LISTENER_SECONDS,
        }
        self._journal = open_journal(self._journal_url, config)
        self._dbos = DBOS(config=config)
        self._client = DBOSClient(
            system_database_engine=self._journal, dbos_system_schema=config.get("dbos_system_schema"),
            serializer=serializer, application_name=_APPLICATION, lazy=True,
        )  # fmt: skip

        places = Places(self._queues.places, is_open=lambda: not self._draining)
        lookout = self._lookout = Lookout(self._queues.runs, has_room=places.has_room)

        def run(key: str) -> str:
            try:
                with places.running(key):
                    return self._run(key, executor)
            finally:
                lookout.ended()

        def timer(key: str) -> str:
            self.wake(key)
            return key

        self._run_workflow = DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=100)(run)
        self._timer_workflow = DBOS.workflow(name=_TIMER, max_recovery_attempts=100)(timer)
        if self._membership is not None:
            DBOS.listen_queues(self._queues.listened)
        DBOS.launch()
        places.guard(self._dbos._sys_db)
        self._queues.rest_before_looks(self._dbos._sys_db, lookout.rest)
        self._queues.declare()
        if self._membership is not None:
            take_over(self._membership, timer=_TIMER, everything=True)
            if self._queues.runs:
                lookout.watch(waiting_queues(self._journal, self._queues.runs))
        self._ready.set()

    def start(self, key: str) -> None:
        """Enqueue a run under its key; one that is enqueued or done already stays as it is.

        Should the journal not be available, this is done later.
        """
        if self._run_workflow is None:
            raise RuntimeError("launch() comes before start()")
        self._surely(partial(self._enqueue, key), f"enqueueing {key}")

    def start_many(self, keys: Sequence[str]) -> None:
        """start() for each, in one transaction of the journal: its commits are most of what enqueueing costs."""
        if len(keys) == 1:
            self.start(keys[0])
            return
        if self._client is None:
            raise RuntimeError("launch() comes before start_many()")
        self._surely(partial(self._enqueue_many, keys), f"enqueueing {len(keys)} runs from {keys[0]}")

    def cancel(self, key: str) -> None:
        """Stop what runs under a key in this process; a run that waits sees why when it is woken."""
        if not self._stop_here(key) and self._membership is not None:
            self._surely(partial(self._membership.ask_to_cancel, key), f"cancelling {key}")
        self.wake(key)

    def _stop_here(self, key: str) -> bool:
        """Stop what runs under a key in this process; whether there is something."""
        with self._lock:
            active = self._active.get(key)
            if active is not None:
                active.cancellation.cancel()
        return active is not None

    def wake(self, key: str) -> None:
        """Have a run look again at what it waits for; nothing happens to one that is not known."""
        self._surely(partial(self._wake, key), f"waking {key}")

    @property
    def running(self) -> int:
        with self._lock:
            return len(self._active)

    def close(self, *, patience_seconds: int = 20) -> None:
        """Interrupt what runs, wait until it cleaned up, and close the journal."""
        if self._watch is not None:
            self._watch.only_beat()
        with self._lock:
            self._stopping.cancel()
            for active in self._active.values():
                active.cancellation.cancel()
        if self._dbos is not None:
            for thread in self._retries:
                thread.join()
            self._shut(self._dbos, patience_seconds)
            self._dbos = None
        self._client = None
        if self._journal is not None:
            self._journal.dispose()
        if self._watch is not None and self._membership is not None:
            self._watch.stop()
            with contextlib.suppress(StoreUnavailable):
                self._membership.leave()

    def _shut(self, dbos: DBOS, patience_seconds: float) -> None:
        """Have DBOS begin nothing more, wait for what it runs, and end it: it would wait for whole seconds."""
        for event in dbos.background_thread_stop_events:
            event.set()
        if self._lookout is not None:
            self._lookout.close()
        until = time.monotonic() + patience_seconds
        while dbos._active_workflows_set.activeList() and time.monotonic() < until:
            time.sleep(_CLOSING_SECONDS)
        DBOS.destroy(destroy_registry=True)

    def drain(self, is_over: Callable[[], bool]) -> None:
        """Take nothing new and wait until what runs has ended, or `is_over` says so; close() comes next."""
        self._draining = True
        time.sleep(_DRAIN_SECONDS)  # a look for work that had begun may still take something
        if self._membership is not None:
            self._surely(self._membership.drain, "saying that this worker drains")
        while self.running and not is_over():
            time.sleep(_DRAIN_SECONDS)

    def _rejoin(self) -> None:
        """Begin anew after others were told that this process is dead: what it still does is theirs."""
        self._ready.clear()
        with self._lock:
            for active in self._active.values():
                active.lost = True
                active.cancellation.cancel()
        until = time.monotonic() + _REJOIN_SECONDS
        while self.running and time.monotonic() < until:
            time.sleep(_DRAIN_SECONDS)
        while not self._stopping.requested:
            if self._dbos is not None:
                self._shut(self._dbos, _REJOIN_SHUT_SECONDS)
                self._dbos = None
            try:
                self._open()
            except (*_AWAY, WorkerNameTaken) as error:
                _log.warning("this worker cannot begin anew (%s); trying again", error)
                self._stopping.wait(_RETRY_SECONDS)
            else:
                return

    def _enqueue(self, key: str) -> None:
        assert self._run_workflow is not None
        queue = self._first_queues([key])[key]
        with SetWorkflowID(key):
            DBOS.enqueue_workflow(queue, self._run_workflow, key)
        self._call(queue)

    def _call(self, *queues: str) -> None:
        """Have queues of this process looked into."""
        if self._lookout is not None:
            self._lookout.call(*queues)

    def _first_queues(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Where new runs wait."""
        if self._membership is None:
            return {key: queue_of(key) for key in keys}
        return self._membership.first_queues(keys)

    def _resume(self, key: str) -> None:
        queue = queue_of(key) if self._membership is None else self._membership.queue_of(key)
        DBOS.resume_workflow(key, queue_name=queue)
        self._call(queue)

    def _enqueue_many(self, keys: Sequence[str]) -> None:
        assert self._client is not None and self._journal is not None
        queues = self._first_queues(keys)
        with self._journal.begin() as connection:
            for key in keys:
                options: EnqueueOptions = {
                    "workflow_name": _WORKFLOW,
                    "queue_name": queues[key],
                    "workflow_id": key,
                    "app_version": SCHEMA_NUMBER,
                }
                self._client.enqueue_in_transaction(connection, options, key)
        self._call(*set(queues.values()))

    def _wake(self, key: str) -> None:
        # under the lock that _park() holds: a run either sees the flag or is parked before it is resumed
        with self._lock:
            active = self._active.get(key)
            if active is not None:
                active.woken = True
                return
            status = DBOS.get_workflow_status(key)
            if status is not None and status.status == _PARKED:
                self._resume(key)

    def _run(self, key: str, executor: str) -> str:
        with self._lock:
            if self._stopping.requested:
                raise Interrupted
            active = self._active[key] = _Active()
        try:
            active.fence = self._claimed(key, executor)
            do, poll = partial(self._do, active), partial(self._poll, key, active)
            self._program(key, RunJournal(self, active.fence, do, poll))
        except JournalUnavailable as error:
            resume = partial(self._resume_own, key, executor)
            self._retry(resume, f"going on with {key}", error.__cause__ or error)
            raise Interrupted from error
        except FenceLost as error:
            _log.warning("%s", error)
            raise Interrupted from error
        finally:
            self._leave(key, active)
            self._release(active)
        return "over"

    def _claimed(self, key: str, executor: str) -> Fence | None:
        """The right to carry a run on, where it takes one. Raises FenceLost, JournalUnavailable."""
        if self._membership is None:
            return None
        try:
            fence = self._membership.claim(key, executor)
        except StoreUnavailable as error:
            raise JournalUnavailable(str(error)) from error
        if fence is None:
            raise FenceLost(f"another process goes on with {key}: this one was given up")
        return fence

    def _release(self, active: _Active) -> None:
        if self._membership is not None and active.fence is not None and not active.lost:
            with contextlib.suppress(StoreUnavailable):
                self._membership.release(active.fence)

    def _resume_own(self, key: str, executor: str) -> None:
        """Enqueue again a run that ended here before its time; not one that another process has taken."""
        status = DBOS.get_workflow_status(key)
        if self._membership is None or (status is not None and status.executor_id == executor):
            self._resume(key)

    def _leave(self, key: str, active: _Active) -> None:
        """Forget a run, unless it was parked and is here again already."""
        with self._lock:
            if self._active.get(key) is active:
                del self._active[key]

    def _do(self, active: _Active, work: Work, is_cancellable: bool) -> Json:
        """Carry out a step with a cancellation that this engine can reach."""
        cancellation = active.cancellation if is_cancellable else self._stopping
        return self._outcome(active, lambda: self._roomy(work, cancellation))

    def _roomy(self, work: Work, cancellation: Cancellation) -> Json:
        result = work(cancellation)
        self._make_room(cancellation)
        return {"result": result}

    def _outcome(self, active: _Active, work: Callable[[], Json]) -> Json:
        """What is journalled of work that ended: its result, that it was cancelled, or how it failed."""
        try:
            return work()
        except Cancelled:
            if active.lost:
                raise FenceLost("another process goes on with this run") from None
            if self._stopping.requested:
                raise Interrupted from None
            return {"cancelled": True}
        except Exception as error:
            _log.error("a step failed in an unexpected way", exc_info=True)
            return {"error": f"{type(error).__name__}: {error}"}

    def _poll(self, key: str, active: _Active, name: str, poll: Poll, seconds: float) -> Json:
        """What `poll` gives; parks the run for as long as that is None."""
        while True:
            with self._lock:
                active.woken = False
            outcome = self._outcome(active, lambda: {"result": poll(active.cancellation)})
            if outcome.get("result", True) is not None:
                return outcome
            self._park(key, name, active, poll, seconds)

    def _park(self, key: str, name: str, active: _Active, poll: Poll, seconds: float) -> None:
        """Leave the engine unless the run was woken meanwhile; the timer is set once, however often it waits."""
        _outside(self._set_timer, f"{key}@{name}", key, seconds)
        with self._lock:
            if active.woken:
                return
            _outside(DBOS.cancel_workflow, key)
            del self._active[key]
        # who wakes it from another process saw it run, and did nothing: that process wrote first, so it is seen now
        if self._membership is not None:
            outcome = self._outcome(active, lambda: {"result": poll(active.cancellation)})
            if outcome.get("result", True) is not None:
                _outside(self._wake, key)
        raise Interrupted

    def _set_timer(self, name: str, key: str, seconds: float) -> None:
        assert self._timer_workflow is not None
        with SetWorkflowID(name), SetEnqueueOptions(delay_seconds=seconds):
            DBOS.enqueue_workflow(TIMERS, self._timer_workflow, key)

    def _surely(self, action: Callable[[], object], what: str) -> None:
        self._ready.wait(_REJOIN_SECONDS)
        try:
            _outside(action)
        except _AWAY as error:
            self._retry(action, what, error)

    def _retry(self, action: Callable[[], object], what: str, reason: BaseException) -> None:
        """Do something again and again in a thread of its own until the journal lets it."""
        _log.warning("%s failed (%s); trying again until it works", what, reason)

        def persevere() -> None:
            while not self._stopping.wait(_RETRY_SECONDS):
                try:
                    self._make_room(self._stopping)
                    action()
                except Cancelled:
                    return
                except (*_AWAY, dbos_errors.DBOSException) as error:
                    _log.debug("%s failed again: %s", what, error)
                else:
                    return

        thread = threading.Thread(target=persevere, name="engine-retry", daemon=True)
        with self._lock:
            self._retries = [known for known in self._retries if known.is_alive()]
            self._retries.append(thread)
        thread.start()


def _outside(action: Callable[..., Any], *arguments: Any) -> None:
    """Call DBOS as from outside of any workflow: inside of a step it would take the call for a part of that."""
    contextvars.Context().run(action, *arguments)
