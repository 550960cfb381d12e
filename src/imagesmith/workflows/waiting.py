"""Steps that wait for somebody: WaitForAction (spec/workflows.md 8).

pause: WAITING, who is to be told is told --> nothing runs and nothing is held --> RESUME  COMPLETED
                                                                               --> STOP    FAILED
                                                                               --> too late FAILED
                                                                               --> cancel  CANCELLED
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imagesmith.processes import Cancellation, Cancelled
from imagesmith.workflows.document import Step
from imagesmith.workflows.dynamic import Scope, Unresolvable, evaluate_condition
from imagesmith.workflows.executions import step_id
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.journal import Journal, Json
from imagesmith.workflows.step_work import StepWork
from imagesmith.workflows.steps.hooks import notify


class WaitWork:
    """Carries out the waiting steps of one run."""

    def __init__(self, steps: StepWork, journal: Journal) -> None:
        self._steps = steps
        self._journal = journal

    def wait(self, step: Step, scope: Scope, tag: str) -> Json:
        """The result of the step, once somebody has answered or its time is over. Raises Cancelled."""
        paused = self._journal.step(f"{tag} {step.name}", lambda it: self._pause(step, scope, it))
        if paused["status"] != "WAITING":
            return paused
        id = step_id(self._steps.place.id, step.name)

        def poll(cancellation: Cancellation) -> Json | None:
            answer = self._steps.insist(lambda: self._steps.executions.answer(id), cancellation)
            if answer is not None and answer.get("late"):
                answer = self._steps.insist(lambda: self._steps.executions.end_wait(id), cancellation)
            if answer is not None and answer.get("cancelled"):
                raise Cancelled
            if answer is None:
                return None
            return self._answered(step, answer, cancellation)

        # a timer that comes a moment early would find the wait not over, and no other comes
        return self._journal.wait(f"{tag} {step.name} answer", poll, seconds=paused["seconds"] + 1.0)

    def _pause(self, step: Step, scope: Scope, cancellation: Cancellation) -> Json:
        """Enter WAITING and tell who is to be told (8.1)."""
        try:
            if not evaluate_condition(step.condition, scope):
                return self._steps.skip(step, step.inputs, cancellation)
            inputs = self._steps.inputs(step, scope)
        except Unresolvable as error:
            return self._steps.fail_at_once(step, error.message, cancellation)
        allowed, _ = self._steps.allowed(step)
        id = step_id(self._steps.place.id, step.name)
        # before anybody can see that the step waits: from then on the process may die and nothing is lost
        self._steps.shop.instances.rest(self._steps.plan.image_arn, self._steps.place.id)
        begun = self._steps.begin(id, inputs, allowed, cancellation, waiting=self._steps.place.key)
        if begun.result is not None:
            return dict(begun.result)
        with self._steps.log(step) as log:
            log.line("workflow", f"{self._steps.place.id} {step.name} WAITING for an answer to {id}")
            try:
                notify(
                    self._steps.work(step.name, log, cancellation, allowed, {}), inputs, self._message(step, inputs)
                )
            except StepFailed as error:
                return self._steps.end(step, log, self._steps.failed(step.name, error), cancellation)
        return {"status": "WAITING", "seconds": allowed}

    def _message(self, step: Step, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What topics and functions are told (8.3)."""
        message: dict[str, Any] = {
            "imageArn": self._steps.plan.image_arn,
            "workflowArn": self._steps.planned.arn,
            "workflowExecutionId": self._steps.place.id,
            "workflowStepExecutionId": step_id(self._steps.place.id, step.name),
            "workflowStepName": step.name,
            "version": "1.0",
        }
        return message | ({"customPayload": _payload(str(inputs["payload"]))} if "payload" in inputs else {})

    def _answered(self, step: Step, answer: Mapping[str, Any], cancellation: Cancellation) -> Json:
        if answer.get("status"):
            return dict(answer)
        outputs = {name: answer[name] for name in ("action", "reason") if name in answer}
        result: Json = {"status": "COMPLETED", "outputs": outputs}
        if answer.get("late"):
            message = self._steps.allowed(step)[1]
            result = {"status": "FAILED", "message": message, "outputs": {"errorMessage": message}}
        elif answer["action"] == "STOP":
            message = f"The step was stopped{': ' + answer['reason'] if answer.get('reason') else ''}"
            result = {"status": "FAILED", "message": message, "outputs": {**outputs, "errorMessage": message}}
        with self._steps.log(step) as log:
            return self._steps.end(step, log, result, cancellation)


def _payload(text: str) -> Any:
    """The value of a payload that is JSON, else the text itself (8.3)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
