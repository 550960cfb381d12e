"""The run of one workflow document (spec/workflows.md 6).

    open --> step --> step --> ... --> outputs --> finish(outputs) --> COMPLETED
              |  FAILED, Continue: the next step
              |  FAILED, Abort: rollback in reverse order --> ROLLBACK_COMPLETED | FAILED
              |  its instance died with the server: from `open` again, at most ATTEMPTS times

Each step is one step of the journal: condition, inputs, action and records together. An interrupted step runs again
if it uses no instance; otherwise the state of its instance is unknown, so the run starts over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from imagesmith.artifacts.storage import StorageError
from imagesmith.builds.attempts import Attempt
from imagesmith.builds.executions import step_id
from imagesmith.builds.failures import REFUSED_OUTPUT
from imagesmith.builds.instances import instance_id
from imagesmith.builds.journal import Journal, Json
from imagesmith.builds.kind import Finish
from imagesmith.builds.step_work import RunContext, StepExecutor
from imagesmith.builds.steps.table import LAUNCH, WAIT
from imagesmith.builds.waiting import WaitStep
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.store.execution_state import WorkflowResult
from imagesmith.store.step_state import WorkflowStepResult
from imagesmith.values.states import ExecutionStatus, RollbackStatus, StepVerdict
from imagesmith.workflow_documents.document import Step, WorkflowDocument
from imagesmith.workflow_documents.expressions import (
    Scope,
    Unresolvable,
    evaluate_rollback,
    resolve_outputs,
)

_STEP_OUTPUT: Final = re.compile(r"\$\.stepOutputs\.(?P<step>[A-Za-z0-9_-]+)")
_COMPONENTS: Final = "ExecuteComponents"
PHASES: Final = {"BUILD": "Build", "TEST": "Test", "DISTRIBUTION": "Distribution"}


class WorkflowRun:
    """One run of a workflow document for an image."""

    def __init__(
        self,
        worker_context: WorkerContext,
        plan: BuildPlan,
        journal: Journal,
        *,
        planned: PlannedWorkflow,
        document: WorkflowDocument,
        parameters: Mapping[str, Any],
        run_context: RunContext,
        finish: Sequence[tuple[str, Finish]] = (),
    ) -> None:
        self._worker_context = worker_context
        self._plan = plan
        self._journal = journal
        self._planned = planned
        self._document = document
        self._run_context = run_context
        self._finish = finish
        self._steps = StepExecutor(worker_context, plan, planned, run_context)
        self._waits = WaitStep(self._steps, journal)
        self._executions = self._steps.executions
        variables = {**plan.variables, "workflowPhase": PHASES[planned.type]}
        self._scope = Scope(parameters, {}, run_context.workflow_outputs, variables)
        self._tag = ""

    def run(self, prepare: Callable[[], None] = lambda: None) -> WorkflowResult:
        """Execute the document; `prepare` is called in the step that opens the records. Raises Cancelled."""
        attempt = 0
        while True:
            attempt += 1
            self._tag = f"{self._run_context.id}.{attempt}"
            ended = self._attempt(prepare)
            if ended is not None:
                return ended

    def _attempt(self, prepare: Callable[[], None]) -> WorkflowResult | None:
        """Execute the document once; None if its instance is gone and the run must start over."""
        self._journal.step(f"{self._tag} open", lambda _: self._open(prepare))
        outputs: dict[str, Mapping[str, Any]] = {}
        ran: list[Step] = []
        containers: list[Mapping[str, Any]] = []
        for step in self._document.steps:
            scope = replace(self._scope, step_outputs=outputs)
            result = self._execute(step, scope)
            if result.status == StepVerdict.LOST:
                return None
            if result.status == StepVerdict.CANCELLED:
                raise Cancelled
            containers += result.containers
            if result.status == StepVerdict.SKIPPED:
                continue
            ran.append(step)
            if result.outputs:
                outputs[step.name] = result.outputs
            if result.status == StepVerdict.FAILED and step.on_failure == "Abort":
                return self._abort(step, ran, scope, result)
        return self._complete(replace(self._scope, step_outputs=outputs), ran, containers)

    def _open(self, prepare: Callable[[], None]) -> Json:
        prepare()
        self._executions.open(
            self._planned, self._document, id=self._run_context.id, position=self._run_context.position
        )
        return {}

    def _execute(self, step: Step, scope: Scope) -> WorkflowStepResult:
        if step.action == WAIT:
            return self._waits.wait(step, scope, self._tag)
        return self._journalled(step.name, partial(self._steps.carry_out, step, scope))

    def _journalled(self, name: str, work: Callable[[Cancellation], WorkflowStepResult]) -> WorkflowStepResult:
        return WorkflowStepResult.from_json(
            self._journal.step(f"{self._tag} {name}", lambda it: work(it).to_json())
        )

    # Ends

    def _complete(
        self, scope: Scope, ran: Sequence[Step], containers: Sequence[Mapping[str, Any]]
    ) -> WorkflowResult | None:
        outputs = resolve_outputs(self._document, scope)
        values: Mapping[str, Any] = {}
        for name, finish in self._finish:
            result = self._journalled(name, partial(self._last, name, finish, {**outputs, **values}))
            if result.status == StepVerdict.LOST:
                return None
            if result.status == StepVerdict.FAILED:
                return self._roll_back(name, "", ran, scope, result)
            values = {**values, **result.values}
        completed = ExecutionStatus.COMPLETED
        self._journal.finalize(f"{self._tag} over", lambda _: self._close(completed, "", outputs))
        return WorkflowResult(
            status=completed, outputs=outputs, containers=containers, digest=values.get("digest", "")
        )

    def _last(
        self, name: str, finish: Finish, given: Mapping[str, Any], cancellation: Cancellation
    ) -> WorkflowStepResult:
        """Execute a part of the end of a BUILD workflow, which has no step in the document."""
        seconds: dict[str, float] = {}
        count = f"{self._tag} {name}"
        with self._worker_context.log(self._plan.image_arn) as log:
            if self._steps.messages.is_cancelled(self._run_context.id):
                raise Cancelled
            made = Attempt(self._worker_context.outcomes.count_attempt(self._plan.image_arn, count))

            def work() -> WorkflowStepResult:
                run = self._steps.work(name, log, cancellation, 0.0, seconds)
                return WorkflowStepResult(status=StepVerdict.COMPLETED, values=finish(run, given))

            result = self._steps.attempt(
                name, "at the end of the build", work, made, log=log,
                take_back=lambda: self._worker_context.outcomes.uncount_attempt(self._plan.image_arn, count),
            )  # fmt: skip
        if result.status == StepVerdict.COMPLETED:
            self._worker_context.outcomes.note_stages(self._plan.image_arn, seconds)
        return result

    def _abort(self, step: Step, ran: Sequence[Step], scope: Scope, result: WorkflowStepResult) -> WorkflowResult:
        return self._roll_back(step.name, step_id(self._run_context.id, step.name), ran, scope, result)

    def _roll_back(
        self, name: str, id: str, ran: Sequence[Step], scope: Scope, result: WorkflowStepResult
    ) -> WorkflowResult:
        message = result.message
        more = dict(result.context)
        refused_output = str(more.pop(REFUSED_OUTPUT, ""))
        if id:
            message = self._name_step(name, message)
        elif refused_output:
            name = self._blamed(refused_output)
            id = step_id(self._run_context.id, name) if name else ""
        reason = f"Workflow Execution ID: '{self._run_context.id}' failed with reason: {message}"
        context = {
            "workflowExecutionId": self._run_context.id,
            "workflowArn": self._planned.arn,
            **({"stepExecutionId": id, "failedStep": name} if id else {}),
            **more,
        }
        undone = self._journal.finalize(f"{self._tag} rollback", lambda _: self._undo(reason, ran, scope))
        status = ExecutionStatus(undone["status"])
        return WorkflowResult(status=status, reason=reason, context=context, containers=result.containers)

    def _name_step(self, name: str, message: str) -> str:
        """The message of a failed step, with its name; messages of components keep the service's form."""
        step = next((item for item in self._document.steps if item.name == name), None)
        if step is None or step.action == _COMPONENTS:
            return message
        return f"Step '{name}' ({step.action}): {message}"

    def _blamed(self, output: str) -> str:
        """The step that an output of the workflow refers to; empty without one."""
        found = self._document.output(output)
        named = _STEP_OUTPUT.search(str(found.value)) if found is not None else None
        return named["step"] if named else ""

    def _undo(self, reason: str, ran: Sequence[Step], scope: Scope) -> Json:
        """Roll back in reverse order, from the failed step on (spec/workflows.md 6.4)."""
        self._executions.set_status(self._run_context.id, ExecutionStatus.ROLLBACK_IN_PROGRESS, reason)
        statuses: dict[str, RollbackStatus] = {}
        eligible = False
        for step in reversed(ran):
            enabled = _enabled(step, scope)
            eligible = eligible or enabled
            undone = self._undo_step(step) if enabled else RollbackStatus.SKIPPED
            statuses[step_id(self._run_context.id, step.name)] = undone
        complete = eligible and RollbackStatus.FAILED not in statuses.values()
        status = ExecutionStatus.ROLLBACK_COMPLETED if complete else ExecutionStatus.FAILED
        self._executions.roll_back_steps(statuses)
        return self._close(status, reason)

    def _undo_step(self, step: Step) -> RollbackStatus:
        if step.action == "CollectImageMetadata":
            self._worker_context.inspections.put_inventory(self._plan.image_arn, [], os_version="")
            return RollbackStatus.COMPLETED
        if step.action != LAUNCH or self._plan.keep_failed_instance:
            return RollbackStatus.SKIPPED
        try:
            self._worker_context.instances.terminate(
                instance_id(self._run_context.id, step.name), image_arn=self._plan.image_arn
            )
        except (StorageError, InstanceError, OSError) as error:
            with self._worker_context.log(self._plan.image_arn) as log:
                log.line("workflow", f"{self._run_context.id} {step.name} rollback failed: {error}")
            return RollbackStatus.FAILED
        return RollbackStatus.COMPLETED

    def _close(self, status: ExecutionStatus, reason: str, outputs: Mapping[str, Any] | None = None) -> Json:
        self._executions.set_status(self._run_context.id, status, reason, outputs)
        with self._worker_context.log(self._plan.image_arn) as log:
            log.line("workflow", f"{self._run_context.id} {status}")
        return {"status": str(status)}


def _enabled(step: Step, scope: Scope) -> bool:
    try:
        return evaluate_rollback(step, scope)
    except Unresolvable:
        return True
