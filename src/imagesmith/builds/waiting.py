"""Steps that wait for an answer: WaitForAction (spec/workflows.md 8).

pause: WAITING, topic and function notified --> no process, no slot --> RESUME   COMPLETED
                                                                    --> STOP     FAILED
                                                                    --> too late FAILED
                                                                    --> cancel   CANCELLED
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagesmith.builds.execution_messages import WaitEnd
from imagesmith.builds.executions import step_id
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.journal import Journal, Json
from imagesmith.builds.step_work import StepExecutor
from imagesmith.builds.steps.hooks import notify
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.store.step_state import StepAnswer, WaitAction, WorkflowStepResult
from imagesmith.values.states import StepStatus, StepVerdict
from imagesmith.workflow_documents.document import Step
from imagesmith.workflow_documents.expressions import Scope, Unresolvable, evaluate_condition


class WaitStep:
    """Executes the waiting steps of one run."""

    def __init__(self, steps: StepExecutor, journal: Journal) -> None:
        self._steps = steps
        self._journal = journal

    def wait(self, step: Step, scope: Scope, tag: str) -> WorkflowStepResult:
        """The result of the step, after an answer or the end of its time. Raises Cancelled."""
        pause = _Pause.from_json(
            self._journal.step(f"{tag} {step.name}", lambda it: self._pause(step, scope, it).to_json())
        )
        if pause.result is not None:
            return pause.result
        id = step_id(self._steps.run_context.id, step.name)

        def poll(_: Cancellation) -> Json | None:
            answer = self._steps.messages.answer(id)
            if answer is WaitEnd.LATE:
                answer = self._steps.messages.end_wait(id)
            if answer is WaitEnd.CANCELLED:
                raise Cancelled
            return None if answer is None else self._end_answered(step, answer).to_json()

        # a timer that fires a moment early would find the wait not over, and there is only one timer
        stored = self._journal.wait(f"{tag} {step.name} answer", poll, seconds=pause.seconds + 1.0)
        return WorkflowStepResult.from_json(stored)

    def _pause(self, step: Step, scope: Scope, cancellation: Cancellation) -> _Pause:
        """Enter WAITING and notify the topic and the function (spec/workflows.md 8.1)."""
        try:
            if not evaluate_condition(step.condition, scope):
                return _Pause(result=self._steps.skip(step, step.inputs))
            inputs = self._steps.inputs(step, scope)
        except Unresolvable as error:
            return _Pause(result=self._steps.fail_at_once(step, error.message))
        allowed, _ = self._steps.allowed(step)
        id = step_id(self._steps.run_context.id, step.name)
        # before the wait is visible: from then on the process may die without loss
        self._steps.worker_context.instances.suspend(self._steps.plan.image_arn, self._steps.run_context.id)
        begun = self._steps.begin(id, inputs, allowed, waiting=self._steps.run_context.key)
        if begun.result is not None:
            return _Pause(result=begun.result)
        with self._steps.log(step) as log:
            log.line("workflow", f"{self._steps.run_context.id} {step.name} WAITING for an answer to {id}")
            try:
                notify(
                    self._steps.work(step.name, log, cancellation, allowed, {}), inputs, self._message(step, inputs)
                )
            except StepFailed as error:
                return _Pause(result=self._steps.end(step, log, self._steps.failed(step.name, error)))
        return _Pause(seconds=allowed)

    def _message(self, step: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The message for topics and functions (spec/workflows.md 8.3)."""
        return {
            "imageArn": self._steps.plan.image_arn,
            "workflowArn": self._steps.planned.arn,
            "workflowExecutionId": self._steps.run_context.id,
            "workflowStepExecutionId": step_id(self._steps.run_context.id, step.name),
            "workflowStepName": step.name,
            "version": "1.0",
            **({"customPayload": _payload(str(inputs["payload"]))} if "payload" in inputs else {}),
        }

    def _end_answered(self, step: Step, answer: StepAnswer | WaitEnd) -> WorkflowStepResult:
        if isinstance(answer, WaitEnd):
            result = WorkflowStepResult.failed(self._steps.allowed(step)[1], {})
        elif answer.action == WaitAction.STOP:
            message = f"The step was stopped{': ' + answer.reason if answer.reason else ''}"
            result = WorkflowStepResult.failed(message, answer.to_json())
        else:
            result = WorkflowStepResult(status=StepVerdict.COMPLETED, outputs=answer.to_json())
        with self._steps.log(step) as log:
            return self._steps.end(step, log, result)


@dataclass(frozen=True)
class _Pause:
    """The start of a wait of `seconds`, or the result of a step that ended without waiting."""

    seconds: float = 0.0
    result: WorkflowStepResult | None = None

    @classmethod
    def from_json(cls, stored: Json) -> _Pause:
        if stored["status"] == StepStatus.WAITING:
            return cls(stored["seconds"])
        return cls(result=WorkflowStepResult.from_json(stored))

    def to_json(self) -> Json:
        if self.result is not None:
            return self.result.to_json()
        return {"status": str(StepStatus.WAITING), "seconds": self.seconds}


def _payload(text: str) -> Any:
    """The value of a JSON payload, else the text itself (spec/workflows.md 8.3)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
