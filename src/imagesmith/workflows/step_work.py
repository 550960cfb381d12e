"""One step of a workflow document: condition, inputs, action and records, as one step of the journal.

A step that was cut off runs again when it works on no instance; one that did is of an instance whose state nobody
knows, so it is LOST, and its run begins anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.store.database import StoreUnavailable
from imagesmith.workflows.deadline import DeadlinePassed, limited
from imagesmith.workflows.document import Step
from imagesmith.workflows.dynamic import Scope, Unresolvable, evaluate_condition, resolve_inputs
from imagesmith.workflows.executions import Begun, Executions, step_id
from imagesmith.workflows.failures import StepFailed, explain
from imagesmith.workflows.instances import InstanceGone
from imagesmith.workflows.journal import Json
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.reserve import insist
from imagesmith.workflows.step_logs import ship_step_log
from imagesmith.workflows.steps.context import LABELS, Outcome, StepRun
from imagesmith.workflows.steps.table import LAUNCH, action_of
from imagesmith.workflows.workshop import Workshop

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""How often a run, or a step of it, may begin before it fails: the first time and twice after the server died."""

_EXPECTED = (StepFailed, InstanceError, ProcessFailed, StoreUnavailable, SharedStoreError, OSError)
"""Failures that the reason tells in full; any other is a fault of ours and is logged with its traceback."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
    """Which run of the image this is, and what it may see."""

    id: str
    position: int
    key: str
    """Of the engine's run that this is part of."""
    workflow_outputs: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    until: datetime | None = None
    """When the stage must have ended, and what says so."""
    limit: str = ""


class StepWork:
    """Carries out the steps of one run and writes their records."""

    def __init__(self, shop: Workshop, plan: BuildPlan, planned: PlannedWorkflow, place: Place) -> None:
        self.shop = shop
        self.plan = plan
        self.planned = planned
        self.place = place
        self.executions: Executions = shop.executions(plan.image_arn)

    def id(self, step: Step) -> str:
        return step_id(self.place.id, step.name)

    def log(self, step: Step) -> AbstractContextManager[BuildLog]:
        """The build's log and the step's own."""
        return self.shop.log(self.plan.image_arn, execution=self.place.id, step=step.name)

    def carry_out(self, step: Step, scope: Scope, cancellation: Cancellation) -> Json:
        """Condition, inputs, action, records: all that one step is."""
        try:
            if not evaluate_condition(step.condition, scope):
                return self.skip(step, step.inputs, cancellation)
            inputs = self.inputs(step, scope)
        except Unresolvable as error:
            return self.fail_at_once(step, error.message, cancellation)
        id = step_id(self.place.id, step.name)
        seconds = float(step.timeout_seconds)
        begun = self.begin(id, inputs, seconds, cancellation)
        if begun.result is not None:
            return dict(begun.result)
        with self.log(step) as log:
            verdict = self._may_begin(step, begun, log)
            if verdict == "LOST":
                return {"status": "LOST"}
            if verdict:
                return self.end(step, log, {"status": "FAILED", "message": verdict}, cancellation)
            return self._act(step, inputs, log, cancellation)

    def inputs(self, step: Step, scope: Scope) -> dict[str, Any]:
        """The resolved inputs of a step. Raises Unresolvable."""
        strict = self.shop.settings.builds.strict_chaining
        return resolve_inputs(step.inputs, scope, action=step.action, strict_chaining=strict)

    def _may_begin(self, step: Step, begun: Begun, log: BuildLog) -> str:
        """Empty, a reason to fail, or LOST: what an earlier beginning of the step means."""
        if begun.times == 1:
            return ""
        died = begun.times - 1 - begun.stopped
        if died >= ATTEMPTS:
            return f"the server died {died} times during this step; it is not tried again"
        if step.action != LAUNCH and any(key.startswith("instanceId") for key in step.inputs):
            return self.lost(step.name, log, orderly=begun.stopped >= begun.times - 1)
        log.line(LABELS[self.planned.type], f"the server stopped during {step.name}; attempt {begun.times} begins")
        return ""

    def lost(self, name: str, log: BuildLog, *, orderly: bool) -> str:
        """The instance of the run is gone: LOST, or the reason when that happened too often."""
        deaths = 0 if orderly else self.executions.count_death(self.place.id)
        if deaths >= ATTEMPTS:
            return f"the server died {deaths} times during this run; it is not tried again"
        log.line(
            LABELS[self.planned.type],
            f"the server stopped during {name}, and the instance with it; the workflow begins anew",
        )
        for known in self.shop.instances.of(self.plan.image_arn, self.place.id):
            self.shop.instances.terminate(known.id, image_arn=self.plan.image_arn)
        return "LOST"

    def _act(self, step: Step, inputs: Mapping[str, Any], log: BuildLog, cancellation: Cancellation) -> Json:
        id = step_id(self.place.id, step.name)
        seconds: dict[str, float] = {}
        facts: Mapping[str, Any] = {}
        try:
            outcome = self._timed(step, inputs, log, cancellation, seconds)
            facts = outcome.facts
            result = _result(outcome)
        except Cancelled:
            self._note_stop(id)
            raise
        except InstanceGone:
            verdict = self.lost(step.name, log, orderly=False)
            if verdict == "LOST":
                return {"status": "LOST"}
            result = {"status": "FAILED", "message": verdict}
        except Exception as error:
            result = self.failed(step.name, error)
        if result["status"] == "SKIPPED":
            return self.skip(step, step.inputs, cancellation)
        return self.end(step, log, result, cancellation, seconds=seconds, facts=facts)

    def _timed(
        self,
        step: Step,
        inputs: Mapping[str, Any],
        log: BuildLog,
        cancellation: Cancellation,
        seconds: dict[str, float],
    ) -> Outcome:
        """The action under its time limit, or that of the stage when it is nearer. Raises StepFailed, ..."""
        allowed, reason = self.allowed(step)
        try:
            with limited(cancellation, allowed) as inner:
                run = self.work(step.name, log, inner, allowed, seconds)
                return action_of(self.plan.kind, step.action)(run, inputs)
        except DeadlinePassed:
            raise StepFailed(reason) from None

    def allowed(self, step: Step) -> tuple[float, str]:
        """Seconds that a step may take now, and the failure when they are over."""
        own = float(step.timeout_seconds)
        if self.place.until is not None:
            left = (self.place.until - self.shop.clock()).total_seconds()
            if left < own:
                return max(left, 0.0), self.place.limit
        return own, f"Step timed out after {step.timeout_seconds} seconds"

    def work(
        self, name: str, log: BuildLog, cancellation: Cancellation, allowed: float, seconds: dict[str, float]
    ) -> StepRun:
        return StepRun(
            self.shop, self.plan, log, cancellation, seconds,
            type=self.planned.type, execution=self.place.id, step_id=step_id(self.place.id, name),
            step_name=name, digest=self.place.digest, seconds_left=allowed,
        )  # fmt: skip

    def failed(self, what: str, error: Exception) -> Json:
        if not isinstance(error, _EXPECTED):
            _log.error("%s of %s failed in an unexpected way", what, self.plan.image_arn, exc_info=True)
        failure = explain(error, f"the step {what}", free=self.shop.reserve.free)
        return {
            "status": "FAILED",
            "message": failure.reason,
            "context": dict(failure.context),
            "containers": [dict(item) for item in failure.containers],
            "outputs": {**failure.outputs, "errorMessage": failure.reason},
        }

    def begin(
        self,
        id: str,
        inputs: Mapping[str, Any],
        seconds: float,
        cancellation: Cancellation,
        *,
        waiting: str = "",
    ) -> Begun:
        begun = self.insist(
            lambda: self.executions.begin_step(id, inputs=inputs, seconds=seconds, waiting=waiting), cancellation
        )
        if begun.cancelled:
            raise Cancelled
        return begun

    def end(
        self,
        step: Step,
        log: BuildLog,
        result: Json,
        cancellation: Cancellation,
        *,
        seconds: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Json:
        status = str(result["status"])
        words = f": {result['message']}" if result.get("message") else ""
        log.line("workflow", f"{self.place.id} {step.name} {status}{words}")
        ship_step_log(self.shop, self.plan, log, execution=self.place.id, step=step.name)
        id = step_id(self.place.id, step.name)
        self.insist(lambda: self.executions.end_step(id, status, result, stages=seconds, facts=facts), cancellation)
        return result

    def skip(self, step: Step, inputs: Mapping[str, Any], cancellation: Cancellation) -> Json:
        result: Json = {"status": "SKIPPED"}
        with self.log(step) as log:
            log.line("workflow", f"{self.place.id} {step.name} SKIPPED")
        id = step_id(self.place.id, step.name)
        self.insist(lambda: self.executions.skip_step(id, inputs, result), cancellation)
        return result

    def fail_at_once(self, step: Step, message: str, cancellation: Cancellation) -> Json:
        """A step whose condition or inputs cannot be had (3.6)."""
        id = step_id(self.place.id, step.name)
        begun = self.begin(id, step.inputs, float(step.timeout_seconds), cancellation)
        if begun.result is not None:
            return dict(begun.result)
        result: Json = {"status": "FAILED", "message": message, "outputs": {"errorMessage": message}}
        with self.log(step) as log:
            return self.end(step, log, result, cancellation)

    def _note_stop(self, id: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            self.executions.note_stop(id)

    def insist(self, action: Callable[[], Value], cancellation: Cancellation) -> Value:
        return insist(action, self.shop.reserve, cancellation)


def _result(outcome: Outcome) -> Json:
    if outcome.skipped:
        return {"status": "SKIPPED"}
    result: Json = {"status": "COMPLETED", "outputs": dict(outcome.outputs)}
    return result | ({"containers": [dict(item) for item in outcome.containers]} if outcome.containers else {})
