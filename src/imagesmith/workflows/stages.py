"""The stages of a build in order, and the states, times and endings around them.

    begin       PENDING -> CREATING; refuses what this version cannot build
    build       BUILDING      make the image, keep it in the embedded layout
    test        TESTING       run the test phases on a fresh instance of it
    distribute  DISTRIBUTING  push it
    finish      AVAILABLE | FAILED | CANCELLED

Each stage is a journalled step of the engine: it gives a plain result and never an exception, so that the journal
always knows how it ended. A stage that was cut off runs again from its own beginning; `_ATTEMPTS` bounds that.
Writes of state are tried until they succeed (workflows/reserve.py).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from imagesmith.artifacts.storage import StorageError
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.database import StoreUnavailable
from imagesmith.workflows import container
from imagesmith.workflows.failures import StageFailed, explain
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.records import Failure
from imagesmith.workflows.reserve import insist
from imagesmith.workflows.workshop import Workshop

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often a stage may begin before the build fails: the first time and twice after the process died in it."""

_EXPECTED = (StageFailed, InstanceError, ProcessFailed, StoreUnavailable, OSError)
"""Failures that the image's reason tells in full; any other is a fault of ours and is logged with its traceback."""

Work = Callable[[Workshop, BuildPlan, BuildLog, Mapping[str, Any], Cancellation], dict[str, Any]]

Value = TypeVar("Value")

_MACHINE_REASON = "machine images are not built by this version"


class BuildStages:
    """The stages as the engine calls them; the engine knows nothing of images."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def begin(self, image_arn: str, _before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._insist(lambda: self._begin(image_arn), cancellation)

    def build(self, image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._run("build", "BUILDING", container.build, image_arn, before, cancellation)

    def test(self, image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._run("test", "TESTING", container.test, image_arn, before, cancellation)

    def distribute(self, image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._run("distribute", "DISTRIBUTING", container.distribute, image_arn, before, cancellation)

    def finish(self, image_arn: str, result: Mapping[str, Any], stopping: Cancellation) -> dict[str, Any]:
        """Remove what the build leaves behind and write the final state, however long that takes."""
        plan = self._insist(lambda: self._workshop.records.plan(image_arn), stopping)
        if plan is None or result["status"] == "over":
            return {}
        self._workshop.reserve.make_room(stopping)
        try:
            self._workshop.clear(plan, keep_failed=result["status"] == "failed" and plan.keep_failed_instance)
        except (ProcessFailed, StorageError, OSError) as error:
            _log.warning("what %s left behind stays until the next start: %s", image_arn, error)
        self._insist(lambda: self._end(image_arn, result), stopping)
        return {}

    def _begin(self, image_arn: str) -> dict[str, Any]:
        plan = self._workshop.records.plan(image_arn)
        if plan is None or not self._workshop.records.move(image_arn, "CREATING"):
            return {"status": "over"}
        if plan.kind == "machine":
            return _failed("CREATING", StageFailed(_MACHINE_REASON))
        return {"status": "ok"}

    def _end(self, image_arn: str, result: Mapping[str, Any]) -> None:
        # a cancel that came too late to stop anything was accepted all the same, and clients wait for its state
        cancelled = result["status"] == "cancelled" or self._workshop.records.is_cancelled(image_arn)
        failed = result["status"] == "failed" and not cancelled
        failure = Failure(result["reason"], result["context"]) if failed else None
        status = "CANCELLED" if cancelled else "FAILED" if failed else "AVAILABLE"
        self._workshop.records.finish(image_arn, status, failure=failure, outputs=result.get("outputs"))
        with contextlib.suppress(OSError), self._workshop.log(image_arn) as log:
            log.line("end", status if failure is None else f"{status}: {failure.reason}")

    def _run(
        self,
        name: str,
        status: str,
        work: Work,
        image_arn: str,
        before: Mapping[str, Any],
        cancellation: Cancellation,
    ) -> dict[str, Any]:
        plan, verdict = self._insist(lambda: self._enter(name, status, image_arn), cancellation)
        if plan is None:
            return {**before, "status": verdict}
        started = time.monotonic()
        try:
            result = {**before, **self._work(name, work, plan, before, cancellation), "status": "ok"}
        except Cancelled:
            self._note_stop(image_arn, name)
            raise
        except Exception as error:
            if not isinstance(error, _EXPECTED):
                _log.error("stage %s of %s failed in an unexpected way", name, image_arn, exc_info=True)
            result = _failed(status, explain(error, f"the {name} stage", free=self._workshop.reserve.free), before)
        seconds = time.monotonic() - started
        self._insist(lambda: self._workshop.records.note_stage(image_arn, name, seconds), cancellation)
        return result

    def _enter(self, name: str, status: str, image_arn: str) -> tuple[BuildPlan | None, str]:
        """The plan when the stage is to run; otherwise None and what that means for the build."""
        records = self._workshop.records
        plan = records.plan(image_arn)
        if plan is None:
            return None, "over"
        if records.is_cancelled(image_arn):
            return None, "cancelled"
        if name == "test" and not plan.tests_enabled:
            return None, "ok"
        if not records.move(image_arn, status):
            return None, "over"
        records.count_attempt(image_arn, name)
        return plan, "ok"

    def _work(
        self, name: str, work: Work, plan: BuildPlan, before: Mapping[str, Any], cancellation: Cancellation
    ) -> dict[str, Any]:
        attempts = self._workshop.records.outcome(plan.image_arn).get("attempts", {})
        begun = int(attempts.get(name, 1))
        with self._workshop.log(plan.image_arn) as log:
            if begun - int(attempts.get(_stopped(name), 0)) > _ATTEMPTS:
                raise StageFailed(f"the server died {_ATTEMPTS} times during this stage; it is not tried again")
            if begun > 1:
                log.line(name, f"the server stopped during this stage; attempt {begun} begins from its start")
            return work(self._workshop, plan, log, before, cancellation)

    def _note_stop(self, image_arn: str, name: str) -> None:
        """A stage that an orderly stop of the server cut off does not use up one of its attempts."""
        with contextlib.suppress(StoreUnavailable):
            self._workshop.records.count_attempt(image_arn, _stopped(name))

    def _insist(self, action: Callable[[], Value], cancellation: Cancellation) -> Value:
        return insist(action, self._workshop.reserve, cancellation)


def _stopped(name: str) -> str:
    """Under which name the orderly stops during a stage are counted."""
    return f"{name} stopped"


def _failed(status: str, failure: StageFailed, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    context = {"imageStatus": status, **failure.context}
    kept = {"outputs": failure.outputs} if failure.outputs else {}
    return {**(before or {}), **kept, "status": "failed", "reason": failure.reason, "context": context}
