"""Builds as durable workflows: the one module that knows DBOS.

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
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pysqlite3
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

from imagesmith.processes import Cancellation, Cancelled
from imagesmith.workflows.journal import Journal, Json, Poll, Work, WorkFailed, is_part

_log = logging.getLogger(__name__)

SCHEMA_NUMBER = "imagesmith-2"
"""What DBOS calls the application version: only builds journalled under the same number are taken up again."""

_APPLICATION, _WORKFLOW = "imagesmith", "build"
_SCHEMA = "imagesmith_engine"
QUEUE, PARTS, TIMERS = "builds", "parts", "timers"
_PARTS_AT_ONCE = 5
_POLL_SECONDS = 0.2
_TIMER_POLL_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_PARKED = "CANCELLED"

Program = Callable[[str, Journal], None]
"""Carries out the run of a key; raises nothing but what its journal raises."""


class Interrupted(BaseException):
    """The process is stopping, or the run is parked; the step counts as never run."""


class JournalUnavailable(BaseException):
    """The journal cannot be written or read. A BaseException: a program that explains failures must not keep it."""


@dataclass
class _Active:
    """A run that is in this process."""

    cancellation: Cancellation = field(default_factory=Cancellation)
    woken: bool = False


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
    ) -> None:
        """`make_room` is called before the journal is written: it may wait until there is space for that."""
        self._journal_url = journal_url
        self._program = program
        self._concurrency = concurrency
        self._executor_id = executor_id
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

    def launch(self) -> None:
        """Open the journal, take up interrupted builds and begin to work."""
        serializer = DBOSPortableJSONSerializer()
        config: DBOSConfig = {
            "name": _APPLICATION,
            "system_database_url": self._journal_url,
            "application_version": SCHEMA_NUMBER,
            "executor_id": self._executor_id,
            "serializer": serializer,
            "log_level": "ERROR",
        }
        if self._journal_url.startswith("sqlite"):
            self._journal = config["system_database_engine"] = _sqlite_engine(self._journal_url)
        else:
            config["dbos_system_schema"] = _SCHEMA
            self._journal = sa.create_engine(self._journal_url, pool_pre_ping=True, pool_size=1, max_overflow=4)
        self._dbos = DBOS(config=config)
        self._client = DBOSClient(
            system_database_engine=self._journal, dbos_system_schema=config.get("dbos_system_schema"),
            serializer=serializer, application_name=_APPLICATION, lazy=True,
        )  # fmt: skip

        def run(key: str) -> str:
            return self._run(key)

        def timer(key: str) -> str:
            self.wake(key)
            return key

        self._run_workflow = DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=100)(run)
        self._timer_workflow = DBOS.workflow(name="timer", max_recovery_attempts=100)(timer)
        DBOS.launch()
        for name, at_once, seconds in (
            (QUEUE, self._concurrency, _POLL_SECONDS),
            (PARTS, _PARTS_AT_ONCE, _POLL_SECONDS),
            (TIMERS, None, _TIMER_POLL_SECONDS),
        ):
            DBOS.register_queue(
                name, worker_concurrency=at_once, polling_interval_sec=seconds, on_conflict="always_update"
            )

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
        with self._lock:
            active = self._active.get(key)
            if active is not None:
                active.cancellation.cancel()
        self.wake(key)

    def wake(self, key: str) -> None:
        """Have a run look again at what it waits for; nothing happens to one that is not known."""
        self._surely(partial(self._wake, key), f"waking {key}")

    @property
    def running(self) -> int:
        with self._lock:
            return len(self._active)

    def close(self, *, patience_seconds: int = 20) -> None:
        """Interrupt what runs, wait until it cleaned up, and close the journal."""
        with self._lock:
            self._stopping.cancel()
            for active in self._active.values():
                active.cancellation.cancel()
        if self._dbos is not None:
            for thread in self._retries:
                thread.join()
            DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=patience_seconds)
            self._dbos = None
        self._client = None
        if self._journal is not None:
            self._journal.dispose()

    def _enqueue(self, key: str) -> None:
        assert self._run_workflow is not None
        with SetWorkflowID(key):
            DBOS.enqueue_workflow(_queue_of(key), self._run_workflow, key)

    def _enqueue_many(self, keys: Sequence[str]) -> None:
        assert self._client is not None and self._journal is not None
        with self._journal.begin() as connection:
            for key in keys:
                options: EnqueueOptions = {
                    "workflow_name": _WORKFLOW,
                    "queue_name": _queue_of(key),
                    "workflow_id": key,
                    "app_version": SCHEMA_NUMBER,
                }
                self._client.enqueue_in_transaction(connection, options, key)

    def _wake(self, key: str) -> None:
        # under the lock that _park() holds: a run either sees the flag or is parked before it is resumed
        with self._lock:
            active = self._active.get(key)
            if active is not None:
                active.woken = True
                return
            status = DBOS.get_workflow_status(key)
            if status is not None and status.status == _PARKED:
                DBOS.resume_workflow(key, queue_name=_queue_of(key))

    def _run(self, key: str) -> str:
        with self._lock:
            if self._stopping.requested:
                raise Interrupted
            active = self._active[key] = _Active()
        try:
            self._program(key, _RunJournal(self, key, active))
        except JournalUnavailable as error:
            resume = partial(DBOS.resume_workflow, key, queue_name=_queue_of(key))
            self._retry(resume, f"going on with {key}", error.__cause__ or error)
            raise Interrupted from error
        finally:
            self._leave(key, active)
        return "over"

    def _leave(self, key: str, active: _Active) -> None:
        """Forget a run, unless it was parked and is here again already."""
        with self._lock:
            if self._active.get(key) is active:
                del self._active[key]

    def do(self, active: _Active, work: Work, *, shielded: bool) -> Json:
        """Carry out a step with a cancellation that this engine can reach."""
        cancellation = self._stopping if shielded else active.cancellation
        return self._outcome(lambda: self._roomy(work, cancellation))

    def _roomy(self, work: Work, cancellation: Cancellation) -> Json:
        result = work(cancellation)
        self._make_room(cancellation)
        return {"result": result}

    def _outcome(self, work: Callable[[], Json]) -> Json:
        """What is journalled of work that ended: its result, that it was cancelled, or how it failed."""
        try:
            return work()
        except Cancelled:
            if self._stopping.requested:
                raise Interrupted from None
            return {"cancelled": True}
        except Exception as error:
            _log.error("a step failed in an unexpected way", exc_info=True)
            return {"error": f"{type(error).__name__}: {error}"}

    def poll(self, key: str, name: str, active: _Active, poll: Poll, seconds: float) -> Json:
        """What `poll` gives; parks the run for as long as that is None."""
        while True:
            with self._lock:
                active.woken = False
            outcome = self._outcome(lambda: {"result": poll(active.cancellation)})
            if outcome.get("result", True) is not None:
                return outcome
            self._park(key, name, active, seconds)

    def _park(self, key: str, name: str, active: _Active, seconds: float) -> None:
        """Leave the engine unless the run was woken meanwhile; the timer is set once, however often it waits."""
        _outside(self._set_timer, f"{key}@{name}", key, seconds)
        with self._lock:
            if active.woken:
                return
            _outside(DBOS.cancel_workflow, key)
            del self._active[key]
        raise Interrupted

    def _set_timer(self, name: str, key: str, seconds: float) -> None:
        assert self._timer_workflow is not None
        with SetWorkflowID(name), SetEnqueueOptions(delay_seconds=seconds):
            DBOS.enqueue_workflow(TIMERS, self._timer_workflow, key)

    def _surely(self, action: Callable[[], object], what: str) -> None:
        try:
            _outside(action)
        except sa.exc.DBAPIError as error:
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
                except sa.exc.DBAPIError as error:
                    _log.debug("%s failed again: %s", what, error)
                else:
                    return

        thread = threading.Thread(target=persevere, name="engine-retry", daemon=True)
        with self._lock:
            self._retries = [known for known in self._retries if known.is_alive()]
            self._retries.append(thread)
        thread.start()


class _RunJournal:
    """The journal of one run, as its program sees it."""

    def __init__(self, engine: DurableEngine, key: str, active: _Active) -> None:
        self._engine = engine
        self._key = key
        self._active = active

    def step(self, name: str, work: Work) -> Json:
        return _journalled(name, lambda: self._engine.do(self._active, work, shielded=False))

    def conclude(self, name: str, work: Work) -> Json:
        return _journalled(name, lambda: self._engine.do(self._active, work, shielded=True))

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        return _journalled(name, lambda: self._engine.poll(self._key, name, self._active, poll, seconds))

    def start(self, key: str) -> None:
        self._engine.start(key)

    def cancel(self, key: str) -> None:
        self._engine.cancel(key)

    def wake(self, key: str) -> None:
        self._engine.wake(key)


def _journalled(name: str, action: Callable[[], Json]) -> Json:
    """The result of a step. Raises Cancelled, WorkFailed, JournalUnavailable."""
    try:
        outcome: Json = DBOS.run_step({"name": name}, action)
    except sa.exc.DBAPIError as error:
        raise JournalUnavailable(str(error)) from error
    if "cancelled" in outcome:
        raise Cancelled
    if "error" in outcome:
        raise WorkFailed(outcome["error"])
    result: Json = outcome["result"]
    return result


def _queue_of(key: str) -> str:
    return PARTS if is_part(key) else QUEUE


def _outside(action: Callable[..., Any], *arguments: Any) -> None:
    """Call DBOS as from outside of any workflow: inside of a step it would take the call for a part of that."""
    contextvars.Context().run(action, *arguments)


def _sqlite_engine(url: str) -> sa.Engine:
    """The journal's engine on a new enough SQLite, with the connection settings DBOS would use itself."""
    engine = sa.create_engine(url, module=pysqlite3, connect_args={"check_same_thread": False})

    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    sa.event.listen(engine, "connect", configure)
    return engine
