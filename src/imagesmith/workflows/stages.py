"""The stages of a build in order, and the states, times and endings around them.

    begin       PENDING -> CREATING; refuses what this version cannot build
    build       BUILDING      make the image, keep it in the embedded layout
    test        TESTING       run the test phases on a fresh instance of it
    distribute  DISTRIBUTING  push it
    finish      AVAILABLE | FAILED | CANCELLED

Each stage is a journalled step of the engine: it gives a plain result and never an exception, so that the journal
always knows how it ended. A stage that was cut off runs again from its own beginning; `_ATTEMPTS` bounds that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, ProcessFailed
from imagesmith.recipes.plan import BuildPlan
from imagesmith.workflows import container
from imagesmith.workflows.failures import StageFailed, explain
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.records import Failure
from imagesmith.workflows.workshop import Workshop

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often a stage may begin before the build fails: the first time and twice after the process died in it."""

_EXPECTED = (StageFailed, InstanceError, ProcessFailed, OSError)
"""Failures that the image's reason tells in full; any other is a fault of ours and is logged with its traceback."""

Work = Callable[[Workshop, BuildPlan, BuildLog, Mapping[str, Any], Cancellation], dict[str, Any]]

_MACHINE_REASON = "machine images are not built by this version"


class BuildStages:
    """The stages as the engine calls them; the engine knows nothing of images."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def begin(self, image_arn: str, _before: Mapping[str, Any], _cancellation: Cancellation) -> dict[str, Any]:
        plan = self._workshop.records.plan(image_arn)
        if plan is None or not self._workshop.records.move(image_arn, "CREATING"):
            return {"status": "over"}
        if plan.kind == "machine":
            return _failed("CREATING", StageFailed(_MACHINE_REASON))
        return {"status": "ok"}

    def build(self, image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._run("build", "BUILDING", container.build, image_arn, before, cancellation)

    def test(self, image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._run("test", "TESTING", container.test, image_arn, before, cancellation)

    def distribute(self, image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
        return self._run("distribute", "DISTRIBUTING", container.distribute, image_arn, before, cancellation)

    def finish(self, image_arn: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write the final state and remove what the build leaves behind."""
        status = {"ok": "AVAILABLE", "failed": "FAILED", "cancelled": "CANCELLED"}.get(result["status"])
        plan = self._workshop.records.plan(image_arn)
        if status is None or plan is None:
            return {}
        failure = Failure(result["reason"], result["context"]) if status == "FAILED" else None
        self._workshop.clear(plan, keep_failed=status == "FAILED" and plan.keep_failed_instance)
        self._workshop.records.finish(image_arn, status, failure=failure, outputs=result.get("outputs"))
        with self._workshop.log(image_arn) as log:
            log.line("end", status if failure is None else f"{status}: {failure.reason}")
        return {}

    def _run(
        self,
        name: str,
        status: str,
        work: Work,
        image_arn: str,
        before: Mapping[str, Any],
        cancellation: Cancellation,
    ) -> dict[str, Any]:
        shop = self._workshop
        plan = shop.records.plan(image_arn)
        if plan is None:
            return {"status": "over"}
        if shop.records.is_cancelled(image_arn):
            return {"status": "cancelled"}
        if name == "test" and not plan.tests_enabled:
            return {**before, "status": "ok"}
        if not shop.records.move(image_arn, status):
            return {"status": "over"}
        attempt = shop.records.count_attempt(image_arn, name)
        started = time.monotonic()
        try:
            if attempt > _ATTEMPTS:
                raise StageFailed(f"the server stopped {_ATTEMPTS} times during this stage; it is not tried again")
            with shop.log(image_arn) as log:
                if attempt > 1:
                    log.line(name, f"the server stopped during this stage; attempt {attempt} begins from its start")
                result = work(shop, plan, log, before, cancellation)
        except Exception as error:
            if not isinstance(error, _EXPECTED):
                _log.error("stage %s of %s failed in an unexpected way", name, image_arn, exc_info=True)
            return _failed(status, explain(error, f"the {name} stage"), before)
        finally:
            shop.records.note_stage(image_arn, name, time.monotonic() - started)
        return {**before, **result, "status": "ok"}


def _failed(status: str, failure: StageFailed, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    context = {"imageStatus": status, **failure.context}
    kept = {"outputs": failure.outputs} if failure.outputs else {}
    return {**(before or {}), **kept, "status": "failed", "reason": failure.reason, "context": context}
