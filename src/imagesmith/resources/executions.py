"""Runs of workflows: their records, and answers to steps that wait (spec/workflows.md 8.4, 8.5, 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError, invalid_request, invalid_value, not_found
from imagesmith.resources.images import KIND as IMAGE
from imagesmith.resources.lists import list_keyed, list_values
from imagesmith.resources.references import find
from imagesmith.store import executions
from imagesmith.store.executions import WAITING, StepExecution, WorkflowExecution
from imagesmith.store.records import microseconds

Request = Mapping[str, Any]

_ARN: Final = "imageBuildVersionArn"
_EXECUTION: Final = (
    "workflowBuildVersionArn", "type", "message", "startTime", "endTime", "parallelGroup",
)  # fmt: skip
_STEP: Final = (
    "name", "description", "action", "rollbackStatus", "message", "inputs", "outputs", "startTime", "endTime",
)  # fmt: skip


def list_executions(call: Call, request: Request) -> dict[str, Any]:
    """The runs of one image build, in order of creation."""
    image = find(call, request[_ARN], path=_ARN, kind=IMAGE)
    found = executions.executions_of(call.tx, image.arn)
    counts = executions.step_counts(call.tx, [item.id for item in found])
    shown = [{**_shown(item, counts[item.id]), "retried": bool(item.document.get("_retried"))} for item in found]
    answer = list_values(call, shown, key="workflowExecutions")
    return {**answer, _ARN: image.arn, **_reason(image.document)}


def get_execution(call: Call, request: Request) -> dict[str, Any]:
    execution = _execution(call, request["workflowExecutionId"])
    counts = executions.step_counts(call.tx, [execution.id])[execution.id]
    return {**_shown(execution, counts), _ARN: execution.image_arn}


def list_steps(call: Call, request: Request) -> dict[str, Any]:
    """The steps of one run, in document order."""
    execution = _execution(call, request["workflowExecutionId"])
    shown = [_shown_step(step) for step in executions.steps_of(call.tx, execution.id)]
    return {
        **list_values(call, shown, key="steps"),
        "workflowBuildVersionArn": execution.document["workflowBuildVersionArn"],
        "workflowExecutionId": execution.id,
        _ARN: execution.image_arn,
        **{name: execution.document[name] for name in ("message",) if name in execution.document},
    }


def get_step(call: Call, request: Request) -> dict[str, Any]:
    step = _step(call, request["stepExecutionId"])
    execution = _execution(call, step.execution_id)
    return {
        **_shown_step(step),
        "workflowBuildVersionArn": execution.document["workflowBuildVersionArn"],
        "workflowExecutionId": execution.id,
        _ARN: step.image_arn,
        "onFailure": step.document["onFailure"],
        "timeoutSeconds": step.document["timeoutSeconds"],
    }


def list_waiting(call: Call, _request: Request) -> dict[str, Any]:
    """Every step of the account that waits for an answer, oldest first."""

    def fetch(after: Any, limit: int) -> list[Any]:
        found = executions.waiting_steps(call.tx, call.account, call.region, after=after, limit=limit)
        return [(step.cursor, _shown_waiting(call, step)) for step in found]

    return list_keyed(call, fetch, key="steps")


def send_action(call: Call, request: Request) -> dict[str, Any]:
    """Answer a waiting step; exactly one answer counts, and the run goes on after the commit."""
    step = _step(call, request["stepExecutionId"])
    if request[_ARN] != step.image_arn:
        raise invalid_value(_ARN, f"The step {step.id} belongs to another image.")
    late = microseconds(call.now) >= step.document.get("_deadline", 0)
    if step.status != WAITING or late or "_answer" in step.document:
        raise invalid_request(f"The step {step.id} does not wait for an action; it is {step.status}.")
    answer = {"action": request["action"], **({"reason": request["reason"]} if "reason" in request else {})}
    executions.update_step(call.tx, step, "RUNNING", {"_answer": answer})
    if call.builds is not None:
        builds, key = call.builds, str(step.document.get("_run", step.image_arn))
        call.effects.append(lambda: builds.wake(key))
    return {"stepExecutionId": step.id, _ARN: step.image_arn}


def _execution(call: Call, id: str) -> WorkflowExecution:
    found = executions.get_execution(call.tx, id)
    if found is None or (found.account, found.region) != (call.account, call.region):
        raise _missing("workflow execution", id)
    return found


def _step(call: Call, id: str) -> StepExecution:
    found = executions.get_step(call.tx, id)
    if found is None or (found.account, found.region) != (call.account, call.region):
        raise _missing("workflow step execution", id)
    return found


def _missing(what: str, id: str) -> ApiError:
    return not_found(what, id)


def _shown(execution: WorkflowExecution, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        **{name: execution.document[name] for name in _EXECUTION if name in execution.document},
        "workflowExecutionId": execution.id,
        "status": execution.status,
        "totalStepCount": sum(counts.values()),
        "totalStepsSucceeded": counts.get("COMPLETED", 0),
        "totalStepsFailed": counts.get("FAILED", 0),
        "totalStepsSkipped": counts.get("SKIPPED", 0),
    }


def _shown_step(step: StepExecution) -> dict[str, Any]:
    shown = {name: step.document[name] for name in _STEP if name in step.document}
    return {"stepExecutionId": step.id, **shown, "status": step.status}


def _shown_waiting(call: Call, step: StepExecution) -> dict[str, Any]:
    execution = executions.get_execution(call.tx, step.execution_id)
    arn = "" if execution is None else execution.document["workflowBuildVersionArn"]
    return {
        "stepExecutionId": step.id,
        _ARN: step.image_arn,
        "workflowExecutionId": step.execution_id,
        "workflowBuildVersionArn": arn,
        "name": step.document["name"],
        "action": step.document["action"],
        "startTime": step.document["startTime"],
    }


def _reason(image: Mapping[str, Any]) -> dict[str, Any]:
    """The image's own failure, which the list repeats (7.4)."""
    reason = image.get("state", {}).get("reason")
    return {"message": reason[:500]} if reason else {}
