"""One step of a workflow document: condition, inputs, action and records, as one step of the journal.

An interrupted step runs again if it uses no instance; otherwise the state of its instance is unknown, so the step
is LOST, and its run starts over.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import StorageError
from imagesmith.build_logs.logs import BuildLog
from imagesmith.build_logs.step_logs import ship_step_log
from imagesmith.builds.attempts import ATTEMPTS, Attempt, attempt
from imagesmith.builds.deadline import DeadlinePassed, limited
from imagesmith.builds.execution_messages import ExecutionMessages
from imagesmith.builds.executions import Begun, ExecutionRecords, step_id
from imagesmith.builds.failures import StepFailed, explain
from imagesmith.builds.kinds import build_kind
from imagesmith.builds.steps.context import LABELS, Outcome, StepRun
from imagesmith.builds.steps.table import LAUNCH
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.failures import DistributionFailed
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.store.build_outcome import BuildUpdate
from imagesmith.store.database import StoreUnavailable
from imagesmith.store.step_state import WorkflowStepResult
from imagesmith.values.states import StepVerdict
from imagesmith.workflow_documents.document import Step
from imagesmith.workflow_documents.expressions import Scope, Unresolvable, evaluate_condition, resolve_inputs

_log = logging.getLogger(__name__)

_EXPECTED = (StepFailed, DistributionFailed, InstanceError, ProcessFailed, StorageError, SharedStoreError, OSError)
"""Failures that the reason describes in full; any other is a bug and is logged with its traceback."""


@dataclass(frozen=True)
class RunContext:
    """The identity of a workflow execution in the image, and its inputs."""

    id: str
    position: int
    key: str
    """The key of the engine's run that executes it."""
    workflow_outputs: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    until: datetime | None = None
    """The deadline of the stage; `limit` is the failure after it."""
    limit: str = ""


class StepExecutor:
    """Executes the steps of one run and writes their records."""

    def __init__(
        self, worker_context: WorkerContext, plan: BuildPlan, planned: PlannedWorkflow, run_context: RunContext
    ) -> None:
        self.worker_context = worker_context
        self.plan = plan
        self.planned = planned
        self.kind = build_kind(plan)
        self.run_context = run_context
        self.executions: ExecutionRecords = worker_context.executions(plan.image_arn)
        self.messages: ExecutionMessages = worker_context.messages(plan.image_arn)

    def id(self, step: Step) -> str:
        return step_id(self.run_context.id, step.name)

    def log(self, step: Step) -> AbstractContextManager[BuildLog]:
        """The build's log and the step's own."""
        return self.worker_context.log(self.plan.image_arn, execution=self.run_context.id, step=step.name)

    def carry_out(self, step: Step, scope: Scope, cancellation: Cancellation) -> WorkflowStepResult:
        """Execute a whole step: condition, inputs, action, records."""
        try:
            if not evaluate_condition(step.condition, scope):
                return self.skip(step, step.inputs)
            inputs = self.inputs(step, scope)
        except Unresolvable as error:
            return self.fail_at_once(step, error.message)
        id = step_id(self.run_context.id, step.name)
        seconds = float(step.timeout_seconds)
        begun = self.begin(id, inputs, seconds)
        if begun.result is not None:
            return begun.result
        with self.log(step) as log:
            return self._act(step, inputs, begun, log, cancellation)

    def inputs(self, step: Step, scope: Scope) -> Mapping[str, Any]:
        """The resolved inputs of a step. Raises Unresolvable."""
        strict = self.worker_context.settings.builds.strict_chaining
        return resolve_inputs(step.inputs, scope, action=step.action, strict_chaining=strict)

    def lose(self, name: str, log: BuildLog, *, orderly: bool) -> WorkflowStepResult:
        """The result for a lost instance: LOST, or FAILED after too many deaths of the server."""
        deaths = 0 if orderly else self.executions.count_death(self.run_context.id)
        if deaths >= ATTEMPTS:
            return WorkflowStepResult.failed(f"the server died {deaths} times during this run; it is not retried")
        log.line(
            LABELS[self.planned.type],
            f"the server stopped during {name} and lost its instance; the workflow starts again",
        )
        for known in self.worker_context.instances.of(self.plan.image_arn, self.run_context.id):
            self.worker_context.instances.terminate(known.id, image_arn=self.plan.image_arn)
        return WorkflowStepResult(status=StepVerdict.LOST)

    def attempt(
        self, name: str, where: str, work: Callable[[], WorkflowStepResult], made: Attempt, *, log: BuildLog,
        take_back: Callable[[], object], repeatable: bool = True,
    ) -> WorkflowStepResult:  # fmt: skip
        """Execute an attempt of work on the instances of the run. Raises Cancelled."""
        return attempt(
            work, made, where,
            on_line=lambda text: log.line(LABELS[self.planned.type], text),
            take_back=take_back,
            refused=WorkflowStepResult.failed,
            failed=lambda error: self.failed(name, error),
            lost=lambda orderly: self.lose(name, log, orderly=orderly),
            repeatable=repeatable,
        )  # fmt: skip

    def _act(
        self, step: Step, inputs: Mapping[str, Any], begun: Begun, log: BuildLog, cancellation: Cancellation
    ) -> WorkflowStepResult:
        id = step_id(self.run_context.id, step.name)
        seconds: dict[str, float] = {}
        update: BuildUpdate | None = None

        def work() -> WorkflowStepResult:
            nonlocal update
            outcome = self._timed(step, inputs, log, cancellation, seconds)
            update = outcome.update
            return _result(outcome)

        result = self.attempt(
            step.name, f"during {step.name}", work, Attempt(begun.times, begun.stopped),
            log=log, take_back=lambda: self._note_stop(id),
            repeatable=step.action == LAUNCH or not any(key.startswith("instanceId") for key in step.inputs),
        )  # fmt: skip
        if result.status == StepVerdict.LOST:
            return result
        if result.status == StepVerdict.SKIPPED:
            return self.skip(step, step.inputs)
        return self.end(step, log, result, seconds=seconds, update=update)

    def _timed(
        self,
        step: Step,
        inputs: Mapping[str, Any],
        log: BuildLog,
        cancellation: Cancellation,
        seconds: dict[str, float],
    ) -> Outcome:
        """Execute the action within the nearer time limit of step and stage. Raises StepFailed, ..."""
        allowed, reason = self.allowed(step)
        try:
            with limited(cancellation, allowed, is_stopped=self.worker_context.is_waiting) as inner:
                run = self.work(step.name, log, inner, allowed, seconds)
                action = self.kind.actions.get(step.action)
                if action is None:
                    raise StepFailed(self.kind.refusal(step.action))
                return action(run, inputs)
        except DeadlinePassed:
            raise StepFailed(reason) from None

    def allowed(self, step: Step) -> tuple[float, str]:
        """The time limit of a step in seconds, and the failure when it is exceeded."""
        own = float(step.timeout_seconds)
        if self.run_context.until is not None:
            left = (self.run_context.until - self.worker_context.clock()).total_seconds()
            if left < own:
                return max(left, 0.0), self.run_context.limit
        return own, f"Step timed out after {step.timeout_seconds} seconds"

    def work(
        self, name: str, log: BuildLog, cancellation: Cancellation, allowed: float, seconds: dict[str, float]
    ) -> StepRun:
        return StepRun(
            worker_context=self.worker_context, plan=self.plan, log=log, cancellation=cancellation, seconds=seconds,
            kind=self.kind, type=self.planned.type, execution=self.run_context.id,
            step_id=step_id(self.run_context.id, name), step_name=name, digest=self.run_context.digest,
            seconds_left=allowed,
        )  # fmt: skip

    def failed(self, what: str, error: Exception) -> WorkflowStepResult:
        if not isinstance(error, _EXPECTED):
            _log.error("%s of %s failed in an unexpected way", what, self.plan.image_arn, exc_info=True)
        failure = explain(error, f"the step {what}", free=self.worker_context.reserve.free)
        return WorkflowStepResult(
            status=StepVerdict.FAILED, message=failure.reason, context=failure.context,
            containers=failure.containers, outputs={**failure.outputs, "errorMessage": failure.reason},
        )  # fmt: skip

    def begin(self, id: str, inputs: Mapping[str, Any], seconds: float, *, waiting: str = "") -> Begun:
        begun = self.executions.begin_step(id, inputs=inputs, seconds=seconds, waiting=waiting)
        if begun.cancelled:
            raise Cancelled
        return begun

    def end(
        self,
        step: Step,
        log: BuildLog,
        result: WorkflowStepResult,
        *,
        seconds: Mapping[str, float] | None = None,
        update: BuildUpdate | None = None,
    ) -> WorkflowStepResult:
        words = f": {result.message}" if result.message else ""
        log.line("workflow", f"{self.run_context.id} {step.name} {result.status}{words}")
        path = self.worker_context.step_log(self.plan.image_arn, self.run_context.id, step.name)
        ship_step_log(self.plan, path, self.worker_context.s3, log, execution=self.run_context.id, step=step.name)
        id = step_id(self.run_context.id, step.name)
        self.executions.end_step(id, result, stages=seconds, update=update)
        return result

    def skip(self, step: Step, inputs: Mapping[str, Any]) -> WorkflowStepResult:
        with self.log(step) as log:
            log.line("workflow", f"{self.run_context.id} {step.name} SKIPPED")
        id = step_id(self.run_context.id, step.name)
        self.executions.skip_step(id, inputs)
        return WorkflowStepResult(status=StepVerdict.SKIPPED)

    def fail_at_once(self, step: Step, message: str) -> WorkflowStepResult:
        """Fail a step whose condition or inputs cannot be resolved (spec/workflows.md 3.6)."""
        id = step_id(self.run_context.id, step.name)
        begun = self.begin(id, step.inputs, float(step.timeout_seconds))
        if begun.result is not None:
            return begun.result
        with self.log(step) as log:
            return self.end(step, log, WorkflowStepResult.failed(message, {}))

    def _note_stop(self, id: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            self.executions.note_stop(id)


def _result(outcome: Outcome) -> WorkflowStepResult:
    if outcome.skipped:
        return WorkflowStepResult(status=StepVerdict.SKIPPED)
    return WorkflowStepResult(status=StepVerdict.COMPLETED, outputs=outcome.outputs, containers=outcome.containers)
