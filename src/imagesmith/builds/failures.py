"""Failures of steps: the exception of actions, and the sentence and context for the API."""

from __future__ import annotations

import errno

from imagesmith.components.results import ExecutionResult
from imagesmith.distribution.failures import DistributionFailed, FailedWithOutputs
from imagesmith.processes import ProcessFailed
from imagesmith.store.outage import StoreAway, is_outage
from imagesmith.values.names import human_size

_MESSAGE_LIMIT = 1024
_TAIL_LINES = 12
_DISK_FULL = (
    "mib must stay free", "no space left on device", "disk quota exceeded", "database or disk is full",
)  # fmt: skip

REFUSED_OUTPUT = "refusedOutput"
"""Member of a failure's context: the workflow's output that the end of the build could not use."""


class StepFailed(FailedWithOutputs):
    """A step failed; `reason` is the failed operation with its last output."""


def component_failure(result: ExecutionResult, tail: str) -> StepFailed:
    """The failure of a component document (spec/components.md 13.4)."""
    failed = result.failure
    reason = result.failure_message or "component failed"
    if failed is None:
        return StepFailed(reason)
    where = f"Phase {failed.phase}, step {failed.step} ({failed.action}, line {failed.position.line})"
    reason += f" {where}: {failed.message}"
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
    """Turn any failure of a tool or of this machine into one sentence that names the work.

    `free`: free bytes on the disk of the data directory. Raises StoreAway for an outage of the database, which is
    not a failure: the work is repeated when the database is back.
    """
    if is_outage(error):
        raise StoreAway(str(error)) from error
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, DistributionFailed):
        return StepFailed(error.reason, error.context, error.outputs, error.containers)
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
    """Whether a failure of our code or of a tool comes from a full disk."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error).lower()
    return any(words in text for words in _DISK_FULL)
