"""Results of a run: steps, phases, documents, execution, and their published JSON (spec/components.md 8, 11, 12).

step       success | failed | timedOut | ignoredFailure | skipped
phase      success | failed | timedOut | successWithIgnoredFailure        worst of its steps
document   the same                                                       worst of its phases
execution  success | failed | timedOut                                    ignored failures count as success
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from imagesmith.values.diagnostics import Position

StepStatus = Literal["success", "failed", "timedOut", "ignoredFailure", "skipped"]
GroupStatus = Literal["success", "failed", "timedOut", "successWithIgnoredFailure"]

_SEVERITY: Final[tuple[str, ...]] = ("failed", "timedOut", "ignoredFailure", "successWithIgnoredFailure")


@dataclass(frozen=True)
class StepResult:
    """One step that ended. `inputs` and `outputs` are lists of mappings, also for map actions
    (spec/components.md 12.4)."""

    name: str
    action: str
    status: StepStatus
    started: datetime
    ended: datetime
    timeout_seconds: int
    on_failure: str
    max_attempts: int
    position: Position
    failure_message: str = ""
    error_message: str = ""
    """The action's own message; `failure_message` may instead name the failed iterations."""
    stderr: str = ""
    inputs: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    loop: Mapping[str, Any] | None = None
    detailed: tuple[Mapping[str, Any], ...] = ()
    attempts: int = 0
    script_line: int = 0
    """Line of the document in bash's last error; 0 without one."""
    executed: bool = False
    """True when the action was started at least once."""

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()

    def record(self) -> Mapping[str, Any]:
        """The step as detailedoutput.json shows it."""
        return {
            "name": self.name,
            "status": self.status,
            "failureMessage": printable(self.failure_message),
            "timeoutSeconds": self.timeout_seconds,
            "onFailure": self.on_failure,
            "maxAttempts": self.max_attempts,
            "action": self.action,
            "startTime": _instant(self.started),
            "endTime": _instant(self.ended),
            "inputs": _compact(self.inputs),
            "outputs": _compact(self.outputs),
            "loop": self.loop,
            "detailedOutput": list(self.detailed) if self.detailed else None,
        }


@dataclass(frozen=True)
class PhaseResult:
    """How a phase ended, with the results of its steps."""

    name: str
    status: GroupStatus
    started: datetime
    ended: datetime
    steps: tuple[StepResult, ...]

    def record(self) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "startTime": _instant(self.started),
            "endTime": _instant(self.ended),
            "failureMessage": _failed(f"Phase {self.name}", self.status),
            "steps": [step.record() for step in self.steps],
        }


@dataclass(frozen=True)
class DocumentResult:
    """`label` is the document's path or ARN as requested; `failure_message` is set when it never ran."""

    name: str
    label: str
    description: str
    status: GroupStatus
    started: datetime
    ended: datetime
    phases: tuple[PhaseResult, ...]
    failure_message: str = ""

    def record(self) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "filePath": self.label,
            "status": self.status,
            "description": self.description,
            "startTime": _instant(self.started),
            "endTime": _instant(self.ended),
            "failureMessage": self.failure_message or _failed(f"Document {self.label}", self.status),
            "phases": [phase.record() for phase in self.phases],
        }


@dataclass(frozen=True)
class FailedStep:
    """The first step that failed, with everything needed to find it (spec/components.md 12.3, 13.4)."""

    document_index: int
    document_label: str
    document_name: str
    phase: str
    step: str
    action: str
    message: str
    stderr: str
    position: Position
    """The position of the step in its document."""
    script_line: int = 0
    """Line of the document in bash's error; 0 without one."""

    def block(self) -> list[str]:
        """The lines of the failure block of console.log."""
        lines = [
            f"Document: {self.document_name}",
            f"ComponentArn: {self.document_label}",
            f"Phase: {self.phase}",
            f"Step: {self.step}",
            f"Action: {self.action}",
        ]
        if self.message:
            lines.append(f"ErrorMessage: {printable(self.message)}")
        if self.stderr.strip():
            lines.append(f"Stderr: {printable(self.stderr.rstrip())}")
        return [f"  {line}" for line in lines]


@dataclass(frozen=True)
class ExecutionResult:
    """One run of documents."""

    execution_id: str
    status: Literal["success", "failed", "timedOut"]
    started: datetime
    ended: datetime
    documents: tuple[DocumentResult, ...]
    failure: FailedStep | None = None
    chaining: Mapping[str, str] = field(default_factory=dict)
    """Chaining references that were replaced, with their values, secrets masked."""
    log_url: str = ""

    @property
    def steps(self) -> list[StepResult]:
        """Every step that ended, in order."""
        return [step for document in self.documents for phase in document.phases for step in phase.steps]

    @property
    def executed_step_count(self) -> int:
        return sum(step.executed for step in self.steps)

    @property
    def failed_step_count(self) -> int:
        return sum(step.status in ("failed", "timedOut") for step in self.steps)

    @property
    def ignored_failed_step_count(self) -> int:
        return sum(step.status == "ignoredFailure" for step in self.steps)

    @property
    def skipped_step_count(self) -> int:
        return sum(step.status == "skipped" for step in self.steps)

    @property
    def failure_message(self) -> str:
        return "; ".join(
            document.failure_message or f"Document {document.label} failed!"
            for document in self.documents
            if document.status in ("failed", "timedOut")
        )

    def summary(self) -> Mapping[str, Any]:
        """The one JSON object that a run prints (spec/components.md 11.1)."""
        return {
            "executionId": self.execution_id,
            "status": self.status,
            "failedStepCount": self.failed_step_count,
            "executedStepCount": self.executed_step_count,
            "ignoredFailedStepCount": self.ignored_failed_step_count,
            "skippedStepCount": self.skipped_step_count,
            "failureMessage": self.failure_message,
            "logUrl": self.log_url,
        }

    def nested_outputs(self) -> Mapping[str, Any]:
        """The outputs of the ExecuteDocument step that ran this, keys in published order
        (spec/components.md 10.6)."""
        return {name: value for name, value in sorted(self.summary().items()) if name != "skippedStepCount"}

    def detailed(self) -> Mapping[str, Any]:
        """The root of detailedoutput.json (spec/components.md 12.4)."""
        return {
            "executionId": self.execution_id,
            "status": self.status,
            "startTime": _instant(self.started),
            "endTime": _instant(self.ended),
            "failureMessage": self.failure_message,
            "documents": [document.record() for document in self.documents],
        }


def worst_status(statuses: Iterable[str]) -> GroupStatus:
    """The status of a group from the statuses of its members."""
    present = set(statuses)
    for status in _SEVERITY:
        if status not in present:
            continue
        if status == "failed":
            return "failed"
        if status == "timedOut":
            return "timedOut"
        return "successWithIgnoredFailure"
    return "success"


def printable(text: str) -> str:
    """The text with bytes that were not UTF-8 shown as \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _compact(values: Sequence[Mapping[str, Any]]) -> str:
    return printable(json.dumps([dict(value) for value in values], separators=(",", ":"), ensure_ascii=False))


def _instant(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat()


def _failed(what: str, status: str) -> str:
    return f"{what} failed!" if status in ("failed", "timedOut") else ""
