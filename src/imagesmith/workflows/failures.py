"""How a step fails: one exception inside of it, and the sentence and context that the API shows for it."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagesmith.components.results import ExecutionResult
from imagesmith.processes import ProcessFailed
from imagesmith.values.names import human_size

_MESSAGE_LIMIT = 1024
_TAIL_LINES = 12
_DISK_FULL = (
    "mib must stay free", "no space left on device", "disk quota exceeded", "database or disk is full",
    "io: read/write on closed pipe",  # buildah's word for a layer that does not fit
)  # fmt: skip


@dataclass
class StepFailed(Exception):
    """A step cannot go on. `reason`: what failed, with which last words; `context`: members of failureContext."""

    reason: str
    context: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What the action put out all the same."""
    containers: Sequence[Mapping[str, Any]] = ()
    """What was pushed all the same, in the shape of outputResources.containers."""

    def __str__(self) -> str:
        return self.reason


def component_failure(result: ExecutionResult, tail: str) -> StepFailed:
    """A component document failed (spec/components.md 13.4)."""
    failed = result.failure
    reason = result.failure_message or "component failed"
    if failed is None:
        return StepFailed(reason)
    place = f"Phase {failed.phase}, step {failed.step} ({failed.action}, line {failed.position.line})"
    reason += f" {place}: {failed.message}"
    if tail:
        reason += f"\nLast output:\n{tail}"
    component = {
        "componentArn": failed.document_label,
        "phaseName": failed.phase,
        "stepName": failed.step,
        "action": failed.action,
        "errorMessage": (failed.message or "failed")[:_MESSAGE_LIMIT],
    }
    return StepFailed(reason, {"componentFailure": component})


def explain(error: Exception, what: str, *, free: int) -> StepFailed:
    """Any failure of a tool or of this machine as one sentence that names the work it stopped.

    `free`: bytes that are free on the disk of the data directory.
    """
    if isinstance(error, StepFailed):
        return error
    text = str(error)
    if isinstance(error, ProcessFailed):
        text = f"{error.completed.ending}: {error.completed.command}\n{error.completed.tail(_TAIL_LINES)}".rstrip()
    if is_disk_full(error):
        return StepFailed(
            f"{what} failed: no space is left on the disk ({human_size(free)} free); "
            f"free some and run it again: {text}"
        )
    return StepFailed(f"{what} failed: {text}")


def is_disk_full(error: Exception) -> bool:
    """Whether a failure, of ours or in the words of a tool, comes from a disk without space."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error).lower()
    return any(words in text for words in _DISK_FULL)
