"""The state of a workflow execution: the column `document` of its row, as a type.

The members of the API are stored under its names, and our own under names that begin with `_`. Empty members are
not stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.states import ExecutionStatus


@dataclass(frozen=True, kw_only=True)
class WorkflowResult:
    """The end of a workflow execution, or of a stage without a workflow; all members but status may be empty."""

    status: ExecutionStatus
    reason: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Members of the failureContext of the image."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    containers: Sequence[Mapping[str, Any]] = ()
    """Pushed images, as in outputResources.containers."""
    digest: str = ""
    """The digest of the output image, if a BUILD workflow made it."""

    @property
    def ok(self) -> bool:
        return self.status == ExecutionStatus.COMPLETED

    @classmethod
    def failed(cls, reason: str) -> WorkflowResult:
        return cls(status=ExecutionStatus.FAILED, reason=reason)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> WorkflowResult:
        return cls(
            status=ExecutionStatus(stored["status"]),
            reason=stored.get("reason", ""),
            context=stored.get("context", {}),
            outputs=stored.get("outputs", {}),
            containers=tuple(stored.get("containers", ())),
            digest=stored.get("digest", ""),
        )

    def to_json(self) -> Mapping[str, Any]:
        return {
            "status": str(self.status),
            "reason": self.reason,
            "context": dict(self.context),
            "outputs": dict(self.outputs),
            "containers": [dict(item) for item in self.containers],
            "digest": self.digest,
        }


@dataclass(frozen=True)
class PartStart:
    """The input of a part of a run."""

    outputs: Mapping[str, Any]
    """Outputs of the workflows before it."""
    digest: str
    """The digest of the image under test."""
    until: datetime
    """The deadline of the stage."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PartStart:
        return cls(stored["outputs"], stored["digest"], parse_instant(stored["until"]))

    def to_json(self) -> Mapping[str, Any]:
        return {"outputs": dict(self.outputs), "digest": self.digest, "until": iso_instant(self.until)}


@dataclass(frozen=True, kw_only=True)
class ExecutionState:
    """A run of a workflow document, from its start to its end. Unknown texts are empty."""

    workflow_arn: str
    type: str
    start_time: str = ""
    end_time: str = ""
    parallel_group: str = ""
    message: str = ""
    start: PartStart | None = None
    """The input of a part of a run."""
    outputs: Mapping[str, Any] | None = None
    """Its outputs, for a retry of the image; None before it is COMPLETED."""
    deaths: int = 0
    """How often the server died in this run."""
    cancel_requested: bool = False
    result: WorkflowResult | None = None
    """The result of a part, for the run of the image."""
    retried: bool = False
    """A retry of the image repeats this run."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ExecutionState:
        return cls(
            workflow_arn=stored["workflowBuildVersionArn"],
            type=stored["type"],
            start_time=stored.get("startTime", ""),
            end_time=stored.get("endTime", ""),
            parallel_group=stored.get("parallelGroup", ""),
            message=stored.get("message", ""),
            start=PartStart.from_json(stored["_given"]) if "_given" in stored else None,
            outputs=stored.get("_outputs"),
            deaths=stored.get("_deaths", 0),
            cancel_requested=bool(stored.get("_cancel")),
            result=WorkflowResult.from_json(stored["_result"]) if "_result" in stored else None,
            retried=bool(stored.get("_retried")),
        )

    def to_json(self) -> Mapping[str, Any]:
        members = {
            "workflowBuildVersionArn": self.workflow_arn,
            "type": self.type,
            "startTime": self.start_time or None,
            "endTime": self.end_time or None,
            "parallelGroup": self.parallel_group or None,
            "message": self.message or None,
            "_given": self.start.to_json() if self.start is not None else None,
            "_outputs": dict(self.outputs) if self.outputs is not None else None,
            "_deaths": self.deaths or None,
            "_cancel": self.cancel_requested or None,
            "_result": self.result.to_json() if self.result is not None else None,
            "_retried": self.retried or None,
        }
        return {name: value for name, value in members.items() if value is not None}
