"""How a run fails: one exception inside a stage, and the sentence and context that the API shows for it."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagesmith.components.results import ExecutionResult
from imagesmith.processes import ProcessFailed
from imagesmith.recipes.plan import BuildPlan

_MESSAGE_LIMIT = 1024
_TAIL_LINES = 12


@dataclass
class StageFailed(Exception):
    """A stage cannot go on. `reason`: what failed, with which last words; `context`: the API's failureContext."""

    reason: str
    context: Mapping[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """What was made all the same, in the shape of outputResources.containers."""

    def __str__(self) -> str:
        return self.reason


def workflow_execution_id(plan: BuildPlan, stage: str) -> str:
    """`wf-<uuid>`, the same whenever the stage of a build is run again."""
    return f"wf-{uuid.uuid5(uuid.NAMESPACE_URL, f'{plan.image_arn}#{stage}')}"


def component_failure(plan: BuildPlan, stage: str, result: ExecutionResult, tail: str) -> StageFailed:
    """A component document failed (spec/components.md 13.4)."""
    workflow = workflow_execution_id(plan, stage)
    failed = result.failure
    reason = (
        f"Workflow Execution ID: '{workflow}' failed with reason: {result.failure_message or 'component failed'}"
    )
    context: dict[str, Any] = {"workflowExecutionId": workflow}
    if failed is not None:
        place = f"Phase {failed.phase}, step {failed.step} ({failed.action}, line {failed.position.line})"
        reason += f" {place}: {failed.message}"
        if tail:
            reason += f"\nLast output:\n{tail}"
        context["componentFailure"] = {
            "componentArn": failed.document_label,
            "phaseName": failed.phase,
            "stepName": failed.step,
            "action": failed.action,
            "errorMessage": (failed.message or "failed")[:_MESSAGE_LIMIT],
        }
    return StageFailed(reason, context)


def explain(error: Exception, what: str) -> StageFailed:
    """Any failure of a tool or of this machine as one sentence that names the work it stopped."""
    if isinstance(error, StageFailed):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StageFailed(
            f"{what} failed: no space is left on the disk ({error.filename or error}); free some and retry"
        )
    if isinstance(error, ProcessFailed):
        ending = "timed out" if error.completed.timed_out else f"exit status {error.completed.returncode}"
        return StageFailed(
            f"{what} failed ({ending}): {error.completed.command}\n{error.completed.tail(_TAIL_LINES)}".rstrip()
        )
    return StageFailed(f"{what} failed: {error}")
