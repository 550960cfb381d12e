"""The run of one workflow document (spec/workflows.md 6).

    open --> step --> step --> ... --> outputs --> finish(outputs) --> COMPLETED
              |  FAILED, Continue: the next step
              |  FAILED, Abort: rollback in reverse order --> ROLLBACK_COMPLETED | FAILED
              |  its instance died with the server: from `open` again, at most ATTEMPTS times

Each step is one step of the journal: condition, inputs, action and records together. A step that was cut off runs
again when it works on no instance; one that did is of an instance whose state nobody knows, so the run begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.workflows.document import Step, WorkflowDocument
from imagesmith.workflows.dynamic import (
    Scope,
    Unresolvable,
    evaluate_rollback,
    resolve_outputs,
)
from imagesmith.workflows.executions import step_id
from imagesmith.workflows.instances import InstanceGone, instance_id
from imagesmith.workflows.journal import Journal, Json
from imagesmith.workflows.step_work import ATTEMPTS, Place, StepWork
from imagesmith.workflows.steps.context import LABELS, StepRun
from imagesmith.workflows.steps.table import LAUNCH, WAIT
from imagesmith.workflows.waiting import WaitWork
from imagesmith.workflows.workshop import Workshop

PHASES: Final = {"BUILD": "Build", "TEST": "Test", "DISTRIBUTION": "Distribution"}


@dataclass(frozen=True)
class Ended:
    """How a run ended. `status` is that of its record; the rest is empty unless it failed or said more."""

    status: str
    reason: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    containers: Sequence[Mapping[str, Any]] = ()
    digest: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "COMPLETED"

    def to_json(self) -> Json:
        return {**vars(self), "containers": list(self.containers)}


Finish = Callable[[StepRun, Mapping[str, Any]], Json]
"""The end of a BUILD workflow: (work, outputs) -> facts for Ended. Raises as an action does."""


class WorkflowRun:
    """One run of one document for one image."""

    def __init__(
        self,
        shop: Workshop,
        plan: BuildPlan,
        journal: Journal,
        *,
        planned: PlannedWorkflow,
        document: WorkflowDocument,
        parameters: Mapping[str, Any],
        place: Place,
        finish: Sequence[tuple[str, Finish]] = (),
    ) -> None:
        self._shop = shop
        self._plan = plan
        self._journal = journal
        self._planned = planned
        self._document = document
        self._place = place
        self._finish = finish
        self._steps = StepWork(shop, plan, planned, place)
        self._waits = WaitWork(self._steps, journal)
        self._executions = self._steps.executions
        variables = {**plan.variables, "workflowPhase": PHASES[planned.type]}
        self._scope = Scope(parameters, {}, place.workflow_outputs, variables)
        self._tag = ""

    def run(self, prepare: Callable[[], None] = lambda: None) -> Ended:
        """Carry the document out; `prepare` is done together with opening the records. Raises Cancelled."""
        attempt = 0
        while True:
            attempt += 1
            self._tag = f"{self._place.id}.{attempt}"
            ended = self._attempt(prepare)
            if ended is not None:
                return ended

    def _attempt(self, prepare: Callable[[], None]) -> Ended | None:
        """One way through the document; None when its instance is gone and it must begin anew."""
        self._journal.step(f"{self._tag} open", lambda cancellation: self._open(prepare, cancellation))
        outputs: dict[str, Mapping[str, Any]] = {}
        ran: list[Step] = []
        containers: list[Mapping[str, Any]] = []
        for step in self._document.steps:
            scope = replace(self._scope, step_outputs=outputs)
            result = self._one(step, scope)
            if result["status"] == "LOST":
                return None
            containers += result.get("containers", ())
            if result["status"] == "SKIPPED":
                continue
            ran.append(step)
            if result.get("outputs"):
                outputs[step.name] = result["outputs"]
            if result["status"] == "FAILED" and step.on_failure == "Abort":
                return self._abort(step, ran, scope, result)
        return self._complete(replace(self._scope, step_outputs=outputs), ran, containers)

    def _open(self, prepare: Callable[[], None], cancellation: Cancellation) -> Json:
        def write() -> None:
            prepare()
            self._executions.open(self._planned, self._document, id=self._place.id, position=self._place.position)

        self._steps.insist(write, cancellation)
        return {}

    def _one(self, step: Step, scope: Scope) -> Json:
        if step.action == WAIT:
            return self._waits.wait(step, scope, self._tag)
        return self._journal.step(f"{self._tag} {step.name}", partial(self._steps.carry_out, step, scope))

    # Ends

    def _complete(self, scope: Scope, ran: Sequence[Step], containers: Sequence[Mapping[str, Any]]) -> Ended | None:
        outputs = resolve_outputs(self._document, scope)
        facts: Json = {}
        for name, finish in self._finish:
            result = self._journal.step(
                f"{self._tag} {name}", partial(self._last, name, finish, {**outputs, **facts})
            )
            if result["status"] == "LOST":
                return None
            if result["status"] == "FAILED":
                return self._roll_back(name, "", ran, scope, result)
            facts.update(result["facts"])
        self._journal.conclude(f"{self._tag} over", lambda it: self._close("COMPLETED", "", it, outputs))
        return Ended("COMPLETED", outputs=outputs, containers=containers, digest=facts.get("digest", ""))

    def _last(self, name: str, finish: Finish, given: Mapping[str, Any], cancellation: Cancellation) -> Json:
        """A piece of the end of a BUILD workflow; it has no step of the document."""
        seconds: dict[str, float] = {}
        count = f"{self._tag} {name}"
        with self._shop.log(self._plan.image_arn) as log:
            if self._executions.is_cancelled(self._place.id):
                raise Cancelled
            begun = self._steps.insist(
                lambda: self._shop.records.count_attempt(self._plan.image_arn, count), cancellation
            )
            if begun > ATTEMPTS:
                reason = f"the server died {begun - 1} times at the end of the build; it is not tried again"
                return {"status": "FAILED", "message": reason}
            if begun > 1:
                log.line(
                    LABELS[self._planned.type],
                    f"the server stopped at the end of the build; attempt {begun} begins",
                )
            try:
                run = self._steps.work(name, log, cancellation, 0.0, seconds)
                facts = finish(run, given)
            except Cancelled:
                self._shop.records.uncount_attempt(self._plan.image_arn, count)
                raise
            except InstanceGone:
                verdict = self._steps.lost(name, log, orderly=False)
                return {"status": "LOST"} if verdict == "LOST" else {"status": "FAILED", "message": verdict}
            except Exception as error:
                return self._steps.failed(name, error)
        self._steps.insist(lambda: self._shop.records.note_stages(self._plan.image_arn, seconds), cancellation)
        return {"status": "COMPLETED", "facts": facts}

    def _abort(self, step: Step, ran: Sequence[Step], scope: Scope, result: Json) -> Ended:
        return self._roll_back(step.name, step_id(self._place.id, step.name), ran, scope, result)

    def _roll_back(self, name: str, id: str, ran: Sequence[Step], scope: Scope, result: Json) -> Ended:
        message = str(result["message"])
        reason = f"Workflow Execution ID: '{self._place.id}' failed with reason: {message}"
        context = {
            "workflowExecutionId": self._place.id,
            "workflowArn": self._planned.arn,
            **({"stepExecutionId": id, "failedStep": name} if id else {}),
            **result.get("context", {}),
        }
        undone = self._journal.conclude(f"{self._tag} rollback", lambda it: self._undo(reason, ran, scope, it))
        return Ended(undone["status"], reason, context, containers=result.get("containers", ()))

    def _undo(self, reason: str, ran: Sequence[Step], scope: Scope, stopping: Cancellation) -> Json:
        """Roll back in reverse order, beginning with the step that failed (6.4)."""
        self._steps.insist(
            lambda: self._executions.set_status(self._place.id, "ROLLBACK_IN_PROGRESS", reason), stopping
        )
        statuses: dict[str, str] = {}
        eligible = False
        for step in reversed(ran):
            enabled = _enabled(step, scope)
            eligible = eligible or enabled
            statuses[step_id(self._place.id, step.name)] = self._undo_step(step) if enabled else "SKIPPED"
        status = "ROLLBACK_COMPLETED" if eligible and "FAILED" not in statuses.values() else "FAILED"
        self._steps.insist(lambda: self._executions.roll_back_steps(statuses), stopping)
        return self._close(status, reason, stopping)

    def _undo_step(self, step: Step) -> str:
        if step.action == "CollectImageMetadata":
            self._shop.records.put_inventory(self._plan.image_arn, [], os_version="")
            return "COMPLETED"
        if step.action != LAUNCH or self._plan.keep_failed_instance:
            return "SKIPPED"
        try:
            self._shop.instances.terminate(instance_id(self._place.id, step.name), image_arn=self._plan.image_arn)
        except (ProcessFailed, InstanceError, OSError) as error:
            with self._shop.log(self._plan.image_arn) as log:
                log.line("workflow", f"{self._place.id} {step.name} rollback failed: {error}")
            return "FAILED"
        return "COMPLETED"

    def _close(
        self, status: str, reason: str, stopping: Cancellation, outputs: Mapping[str, Any] | None = None
    ) -> Json:
        self._steps.insist(lambda: self._executions.set_status(self._place.id, status, reason, outputs), stopping)
        with self._shop.log(self._plan.image_arn) as log:
            log.line("workflow", f"{self._place.id} {status}")
        return {"status": status}


def _enabled(step: Step, scope: Scope) -> bool:
    try:
        return evaluate_rollback(step, scope)
    except Unresolvable:
        return True
