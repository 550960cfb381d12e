"""Builds as durable workflows: the one module that knows DBOS.

    start(image) --> queue --> [begin] -> [build] -> [test] -> [distribute] -> [finish]
                               each box is a journalled step: run again only when it did not end

- The workflow id is the image's ARN, so a build is started once however often start() is called.
- A process that dies leaves the workflow PENDING in the journal; the next launch goes on from the last step that
  ended. The step that was under way runs again from its own beginning, so every step first clears what an earlier
  try of it left behind.
- close() stops what runs by raising Interrupted out of the step. DBOS journals only Exceptions, so the step counts
  as never ended and the build goes on after the next launch.
- A journal that cannot be written (a full disk, a database that is away) ends the workflow's thread; the engine
  enqueues the build again as soon as it can, and it goes on like after a restart.
- DBOS keeps one instance per process; so does this class (a second launch() raises).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pysqlite3
import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from imagesmith.processes import Cancellation, Cancelled

_log = logging.getLogger(__name__)

SCHEMA_NUMBER = "imagesmith-1"
"""What DBOS calls the application version: only builds journalled under the same number are taken up again."""

QUEUE = "builds"
_POLL_SECONDS = 0.2
_RETRY_SECONDS = 1.0

Stage = Callable[[str, Mapping[str, Any], Cancellation], dict[str, Any]]
"""(image ARN, result of the stage before, cancellation) -> result; raises Cancelled, never another exception."""


class Interrupted(BaseException):
    """The process is stopping; the step counts as never run."""


@dataclass(frozen=True)
class Stages:
    """The steps of a build in order. `steps` end early on a result whose `status` is not `ok`."""

    steps: Sequence[tuple[str, Stage]]
    finish: Stage
    """Writes the final state from the last result; must not fail. Its cancellation is that of the whole engine."""


class DurableEngine:
    """Runs builds on this process; a Builder."""

    def __init__(
        self,
        journal_url: str,
        stages: Stages,
        *,
        concurrency: int,
        executor_id: str = "local",
        make_room: Callable[[Cancellation], None] = lambda _: None,
    ) -> None:
        """`make_room` is called before the journal is written: it may wait until there is space for that."""
        self._journal_url = journal_url
        self._stages = stages
        self._concurrency = concurrency
        self._executor_id = executor_id
        self._lock = threading.Lock()
        self._running: dict[str, Cancellation] = {}
        self._make_room = make_room
        self._stopping = Cancellation()
        self._retries: list[threading.Thread] = []
        self._workflow: Callable[[str], str] | None = None
        self._dbos: DBOS | None = None
        self._journal: sa.Engine | None = None

    def launch(self) -> None:
        """Open the journal, take up interrupted builds and begin to work."""
        config: DBOSConfig = {
            "name": "imagesmith",
            "system_database_url": self._journal_url,
            "application_version": SCHEMA_NUMBER,
            "executor_id": self._executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": _POLL_SECONDS,
        }
        if self._journal_url.startswith("sqlite"):
            self._journal = config["system_database_engine"] = _sqlite_engine(self._journal_url)
        else:
            config["dbos_system_schema"] = "imagesmith_engine"
        self._dbos = DBOS(config=config)

        def build(image_arn: str) -> str:
            return self._build(image_arn)

        self._workflow = DBOS.workflow(name="build", max_recovery_attempts=100)(build)
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._concurrency,
            polling_interval_sec=_POLL_SECONDS,
            on_conflict="always_update",
        )

    def start(self, image_arn: str) -> None:
        """Enqueue a build under its ARN; an image that is enqueued or done already stays as it is.

        Should the journal not be available, this is done later.
        """
        if self._workflow is None:
            raise RuntimeError("launch() comes before start()")
        try:
            self._enqueue(image_arn)
        except sa.exc.DBAPIError as error:
            self._retry(lambda: self._enqueue(image_arn), f"enqueueing {image_arn}", error)

    def cancel(self, image_arn: str) -> None:
        """Stop a build that runs in this process; one that waits sees its CANCELLED image when its turn comes."""
        with self._lock:
            cancellation = self._running.get(image_arn)
        if cancellation is not None:
            cancellation.cancel()

    @property
    def running(self) -> int:
        with self._lock:
            return len(self._running)

    def close(self, *, patience_seconds: int = 20) -> None:
        """Interrupt what runs, wait until it cleaned up, and close the journal."""
        with self._lock:
            self._stopping.cancel()
            for cancellation in self._running.values():
                cancellation.cancel()
        if self._dbos is not None:
            for thread in self._retries:
                thread.join()
            DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=patience_seconds)
            self._dbos = None
        if self._journal is not None:
            self._journal.dispose()

    def _enqueue(self, image_arn: str) -> None:
        assert self._workflow is not None
        with SetWorkflowID(image_arn):
            DBOS.enqueue_workflow(QUEUE, self._workflow, image_arn)

    def _build(self, image_arn: str) -> str:
        try:
            return self._run_steps(image_arn)
        except sa.exc.DBAPIError as error:
            resume = partial(DBOS.resume_workflow, image_arn, queue_name=QUEUE)
            self._retry(resume, f"going on with {image_arn}", error)
            raise Interrupted from error

    def _run_steps(self, image_arn: str) -> str:
        result: dict[str, Any] = {"status": "ok"}
        for name, stage in self._stages.steps:
            result = DBOS.run_step({"name": name}, self._guarded, stage, image_arn, result)
            if result["status"] != "ok":
                break
        DBOS.run_step({"name": "finish"}, self._finish, image_arn, result)
        return str(result["status"])

    def _guarded(self, stage: Stage, image_arn: str, before: dict[str, Any]) -> dict[str, Any]:
        """Run a stage with a cancellation that this engine can reach."""
        cancellation = Cancellation()
        with self._lock:
            if self._stopping.requested:
                raise Interrupted
            self._running[image_arn] = cancellation
        try:
            result = stage(image_arn, before, cancellation)
            self._make_room(cancellation)
        except Cancelled:
            if self._stopping.requested:
                raise Interrupted from None
            return {"status": "cancelled"}
        finally:
            with self._lock:
                self._running.pop(image_arn, None)
        return result

    def _finish(self, image_arn: str, result: dict[str, Any]) -> dict[str, Any]:
        try:
            ended = self._stages.finish(image_arn, result, self._stopping)
            self._make_room(self._stopping)
        except Cancelled:
            raise Interrupted from None
        return ended

    def _retry(self, action: Callable[[], object], what: str, reason: Exception) -> None:
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


def _sqlite_engine(url: str) -> sa.Engine:
    """The journal's engine on a new enough SQLite, with the connection settings DBOS would use itself."""
    engine = sa.create_engine(url, module=pysqlite3, connect_args={"check_same_thread": False})

    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    sa.event.listen(engine, "connect", configure)
    return engine
