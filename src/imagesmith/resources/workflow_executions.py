"""Runs of workflows: their records, and answers to steps that wait (spec/workflows.md 8.4, 8.5, 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.errors import invalid_request, invalid_value, not_found
from imagesmith.resources.images import KIND as IMAGE
from imagesmith.resources.lists import list_keyed, list_values
from imagesmith.resources.resolution import find
from imagesmith.store import executions
from imagesmith.store.executions import StepExecution, WorkflowExecution
from imagesmith.store.records import microseconds
from imagesmith.store.step_state import StepAnswer, WaitAction
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.states import StepStatus

_ARN: Final = "imageBuildVersionArn"


def list_executions(call: Call, request: ApiRequest) -> ApiResponse:
    """The runs of one image build, in order of creation."""
    image = find(call, request[_ARN], path=_ARN, kind=IMAGE)
    found = executions.executions_of(call.tx, image.arn)
    counts = executions.step_counts(call.tx, [item.id for item in found])
    shown = [{**_execution_to_api(item, counts[item.id]), "retried": item.state.retried} for item in found]
    answer = list_values(call, shown, key="workflowExecutions")
    return {**answer, _ARN: image.arn, **_reason(image.document)}


def get_execution(call: Call, request: ApiRequest) -> ApiResponse:
    execution = _execution(call, request["workflowExecutionId"])
    counts = executions.step_counts(call.tx, [execution.id])[execution.id]
    return {**_execution_to_api(execution, counts), _ARN: execution.image_arn}


def list_steps(call: Call, request: ApiRequest) -> ApiResponse:
    """The steps of one run, in document order."""
    execution = _execution(call, request["workflowExecutionId"])
    shown = [_step_to_api(step) for step in executions.steps_of(call.tx, execution.id)]
    return {
        **list_values(call, shown, key="steps"),
        "workflowBuildVersionArn": execution.state.workflow_arn,
        "workflowExecutionId": execution.id,
        _ARN: execution.image_arn,
        **_without_empty({"message": execution.state.message}),
    }


def get_step(call: Call, request: ApiRequest) -> ApiResponse:
    step = _step(call, request["stepExecutionId"])
    execution = _execution(call, step.execution_id)
    return {
        **_step_to_api(step),
        "workflowBuildVersionArn": execution.state.workflow_arn,
        "workflowExecutionId": execution.id,
        _ARN: step.image_arn,
        "onFailure": step.state.on_failure,
        "timeoutSeconds": step.state.timeout_seconds,
    }


def list_waiting(call: Call, _request: ApiRequest) -> ApiResponse:
    """Every step of the account that waits for an answer, oldest first."""

    def fetch(after: Any, limit: int) -> list[Any]:
        found = executions.waiting_steps(call.tx, call.account, call.region, after=after, limit=limit)
        return [(step.cursor, _waiting_to_api(call, step)) for step in found]

    return list_keyed(call, fetch, key="steps")


def send_action(call: Call, request: ApiRequest) -> ApiResponse:
    """Answer a waiting step; exactly one answer counts, and the run continues after the commit."""
    step = _step(call, request["stepExecutionId"])
    if request[_ARN] != step.image_arn:
        raise invalid_value(_ARN, f"The step {step.id} belongs to another image.")
    late = microseconds(call.now) >= (step.state.deadline or 0)
    if step.status != StepStatus.WAITING or late or step.state.answer is not None:
        raise invalid_request(f"The step {step.id} does not wait for an action; it is {step.status}.")
    answer = StepAnswer(WaitAction(request["action"]), request.get("reason"), call.caller.principal)
    answered = replace(step, status=StepStatus.RUNNING, state=replace(step.state, answer=answer))
    executions.update_step(call.tx, answered)
    if call.builds is not None:
        builds, key = call.builds, step.state.run or step.image_arn
        call.afterwards(EffectKind.ANSWER, step.id, lambda: builds.wake(key))
    return {"stepExecutionId": step.id, _ARN: step.image_arn}


def _execution(call: Call, id: str) -> WorkflowExecution:
    found = executions.get_execution(call.tx, id)
    if found is None or (found.account, found.region) != (call.account, call.region):
        raise not_found("WorkflowExecution", id)
    return found


def _step(call: Call, id: str) -> StepExecution:
    found = executions.get_step(call.tx, id)
    if found is None or (found.account, found.region) != (call.account, call.region):
        raise not_found("WorkflowStepExecution", id)
    return found


def _execution_to_api(execution: WorkflowExecution, counts: Mapping[str, int]) -> ApiDocument:
    return {
        **_without_empty(
            {
                "message": execution.state.message,
                "startTime": execution.state.start_time,
                "endTime": execution.state.end_time,
                "parallelGroup": execution.state.parallel_group,
            }
        ),
        "workflowBuildVersionArn": execution.state.workflow_arn,
        "type": execution.state.type,
        "workflowExecutionId": execution.id,
        "status": execution.status,
        "totalStepCount": sum(counts.values()),
        "totalStepsSucceeded": counts.get(StepStatus.COMPLETED, 0),
        "totalStepsFailed": counts.get(StepStatus.FAILED, 0),
        "totalStepsSkipped": counts.get(StepStatus.SKIPPED, 0),
    }


def _step_to_api(step: StepExecution) -> ApiDocument:
    state = step.state
    shown = _without_empty(
        {
            "description": state.description,
            "rollbackStatus": state.rollback_status,
            "message": state.message,
            "inputs": state.inputs,
            "outputs": state.outputs,
            "startTime": state.start_time,
            "endTime": state.end_time,
        }
    )
    own = {"stepExecutionId": step.id, "name": state.name, "action": state.action, "status": step.status}
    return {**own, **shown, "attemptNumber": 1, "maxAttempts": 1}


def _without_empty(members: Mapping[str, str | None]) -> ApiDocument:
    """The members that have a value."""
    return {name: value for name, value in members.items() if value}


def _waiting_to_api(call: Call, step: StepExecution) -> ApiDocument:
    execution = executions.get_execution(call.tx, step.execution_id)
    arn = "" if execution is None else execution.state.workflow_arn
    return {
        "stepExecutionId": step.id,
        _ARN: step.image_arn,
        "workflowExecutionId": step.execution_id,
        "workflowBuildVersionArn": arn,
        "name": step.state.name,
        "action": step.state.action,
        "startTime": step.state.start_time,
    }


def _reason(image: Mapping[str, Any]) -> ApiDocument:
    """The image's own failure, which the list repeats (spec/workflows.md 7.4)."""
    reason = image.get("state", {}).get("reason")
    return {"message": reason[:500]} if reason else {}
