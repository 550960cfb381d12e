"""The state of a step execution: the column `document` of its row, as a type.

The members of the API are stored under its names, and our own under names that begin with `_`. Empty members are
not stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from imagesmith.values.states import RollbackStatus, StepVerdict

MESSAGE_LIMIT = 500
"""Length limit of a step's or workflow's message in the API."""


class WaitAction(StrEnum):
    """The actions of an answer to a waiting step."""

    RESUME = "RESUME"
    STOP = "STOP"


@dataclass(frozen=True)
class StepAnswer:
    """An answer to a waiting step."""

    action: WaitAction
    reason: str | None = None
    by: str = ""
    """ARN of the sender; empty in records of earlier versions."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StepAnswer:
        return cls(WaitAction(stored["action"]), stored.get("reason"), stored.get("by", ""))

    def to_json(self) -> Mapping[str, str]:
        """The outputs of the step."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return {"action": self.action, **reason}

    def stored(self) -> Mapping[str, str]:
        """All of it, for the record."""
        return {**self.to_json(), "by": self.by} if self.by else self.to_json()


@dataclass(frozen=True, kw_only=True)
class WorkflowStepResult:
    """The end of an attempt of a step, for its run and its record."""

    status: StepVerdict
    message: str = ""
    """The reason of the failure."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Members of the failureContext of the image."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    containers: Sequence[Mapping[str, Any]] = ()
    """Pushed images, as in outputResources.containers."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values from one part of the end of a BUILD workflow for the next part."""

    @classmethod
    def failed(cls, message: str, outputs: Mapping[str, Any] | None = None) -> WorkflowStepResult:
        """A FAILED result, with the message among the outputs if there are outputs."""
        shown = {} if outputs is None else {**outputs, "errorMessage": message}
        return cls(status=StepVerdict.FAILED, message=message, outputs=shown)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> WorkflowStepResult:
        return cls(
            # a cancelled step has no stored result
            status=StepVerdict(stored.get("status", StepVerdict.CANCELLED)),
            message=stored.get("message", ""),
            context=stored.get("context", {}),
            outputs=stored.get("outputs", {}),
            containers=tuple(stored.get("containers", ())),
            values=stored.get("facts", {}),
        )

    def to_json(self) -> Mapping[str, Any]:
        members = {
            "message": self.message,
            "context": dict(self.context),
            "outputs": dict(self.outputs),
            "containers": [dict(item) for item in self.containers],
            "facts": dict(self.values),
        }
        return {"status": str(self.status), **{name: value for name, value in members.items() if value}}


@dataclass(frozen=True, kw_only=True)
class StepState:
    """A step of a run, from the document to its end. Unknown texts are empty, unknown numbers 0."""

    name: str
    action: str
    on_failure: str
    timeout_seconds: int
    description: str = ""
    inputs: str = ""
    """JSON text, like the outputs."""
    outputs: str = ""
    start_time: str = ""
    end_time: str = ""
    message: str = ""
    rollback_status: RollbackStatus | None = None
    begun: int = 0
    """How often it was started."""
    stopped: int = 0
    """How many attempts were ended by an orderly stop of the server."""
    deadline: int | None = None
    """The deadline of a waiting step, in microseconds since the epoch."""
    answer: StepAnswer | None = None
    run: str = ""
    """The key of the run that an answer to a waiting step wakes."""
    result: WorkflowStepResult | None = None
    """Stored with the end, so that a step that ended but was not journalled is not repeated."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StepState:
        return cls(
            name=stored["name"],
            action=stored["action"],
            on_failure=stored["onFailure"],
            timeout_seconds=stored["timeoutSeconds"],
            description=stored.get("description", ""),
            inputs=stored.get("inputs", ""),
            outputs=stored.get("outputs", ""),
            start_time=stored.get("startTime", ""),
            end_time=stored.get("endTime", ""),
            message=stored.get("message", ""),
            rollback_status=RollbackStatus(stored["rollbackStatus"]) if "rollbackStatus" in stored else None,
            begun=stored.get("_begun", 0),
            stopped=stored.get("_stopped", 0),
            deadline=stored.get("_deadline"),
            answer=StepAnswer.from_json(stored["_answer"]) if "_answer" in stored else None,
            run=stored.get("_run", ""),
            result=WorkflowStepResult.from_json(stored["_result"]) if "_result" in stored else None,
        )

    def to_json(self) -> Mapping[str, Any]:
        members = {
            "name": self.name,
            "action": self.action,
            "onFailure": self.on_failure,
            "timeoutSeconds": self.timeout_seconds,
            "description": self.description or None,
            "inputs": self.inputs or None,
            "outputs": self.outputs or None,
            "startTime": self.start_time or None,
            "endTime": self.end_time or None,
            "message": self.message or None,
            "rollbackStatus": self.rollback_status,
            "_begun": self.begun or None,
            "_stopped": self.stopped or None,
            "_deadline": self.deadline,
            "_answer": self.answer.stored() if self.answer is not None else None,
            "_run": self.run or None,
            "_result": self.result.to_json() if self.result is not None else None,
        }
        return {name: value for name, value in members.items() if value is not None}

    def with_result(self, result: WorkflowStepResult, *, end_time: str) -> StepState:
        """The state with the result of the last attempt; members that the result lacks stay."""
        return replace(
            self,
            result=result,
            end_time=end_time or self.end_time,
            message=result.message[:MESSAGE_LIMIT] or self.message,
        )
