"""The states of images, pipelines, scans, workflow executions and their steps, and their groups in rules
(spec/api.md 5.1, 5.2, spec/workflows.md 6.1).

A StrEnum member equals the string in the API and the tables, so stored states compare without conversion.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class ImageStatus(StrEnum):
    """Of an image; the states of life cycle policies (DEPRECATED, DISABLED, DELETED) follow AVAILABLE."""

    PENDING = "PENDING"
    CREATING = "CREATING"
    BUILDING = "BUILDING"
    TESTING = "TESTING"
    DISTRIBUTING = "DISTRIBUTING"
    INTEGRATING = "INTEGRATING"
    AVAILABLE = "AVAILABLE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DEPRECATED = "DEPRECATED"
    DISABLED = "DISABLED"
    DELETED = "DELETED"


UNFINISHED_IMAGE: Final = (
    ImageStatus.PENDING, ImageStatus.CREATING, ImageStatus.BUILDING, ImageStatus.TESTING,
    ImageStatus.DISTRIBUTING, ImageStatus.INTEGRATING,
)  # fmt: skip
"""A run works on the image, or will; in the order in which a run enters them."""
BUILT_IMAGE: Final = (ImageStatus.AVAILABLE, ImageStatus.DEPRECATED, ImageStatus.DISABLED)
"""The image was AVAILABLE once, and its artifacts still exist."""
UNSUCCESSFUL_IMAGE: Final = (ImageStatus.FAILED, ImageStatus.CANCELLED)
"""The run ended without an image; it may be retried."""
FINAL_IMAGE: Final = frozenset(ImageStatus) - frozenset(UNFINISHED_IMAGE)
"""No run works on the image any more."""


class PipelineStatus(StrEnum):
    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class ResourceStatus(StrEnum):
    """Of a component or workflow: whether recipes may name it and runs may use it."""

    ACTIVE = "ACTIVE"
    DEPRECATED = "DEPRECATED"
    DISABLED = "DISABLED"


WITHDRAWN: Final = (ResourceStatus.DEPRECATED, ResourceStatus.DISABLED)
"""No wildcard reference finds the resource, and no new recipe may name it."""


class ScanStatus(StrEnum):
    """Of the scan of an image."""

    PENDING = "PENDING"
    SCANNING = "SCANNING"
    COLLECTING = "COLLECTING"
    COMPLETED = "COMPLETED"
    ABANDONED = "ABANDONED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"


UNFINISHED_SCAN: Final = frozenset({ScanStatus.PENDING, ScanStatus.SCANNING, ScanStatus.COLLECTING})
"""No process would continue such a scan after its image has ended."""


class ExecutionStatus(StrEnum):
    """Of a workflow execution."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
    ROLLBACK_COMPLETED = "ROLLBACK_COMPLETED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


FINAL_EXECUTION: Final = frozenset(ExecutionStatus) - {
    ExecutionStatus.PENDING, ExecutionStatus.RUNNING, ExecutionStatus.ROLLBACK_IN_PROGRESS,
}  # fmt: skip


class StepStatus(StrEnum):
    """Of a step execution; the model's enumeration lacks WAITING (spec/workflows.md 6.1)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


FINAL_STEP: Final = frozenset(StepStatus) - {StepStatus.PENDING, StepStatus.RUNNING, StepStatus.WAITING}


class StepVerdict(StrEnum):
    """How an attempt of a step ended; all but LOST is also the status of the step's record."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    """Its instance was lost with the server: the workflow restarts."""


class RollbackStatus(StrEnum):
    """The result of a step's rollback."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class PolicyStatus(StrEnum):
    """Of a lifecycle policy."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class LifecycleAction(StrEnum):
    """What a lifecycle execution does to an image; AVAILABLE restores it."""

    DEPRECATE = "DEPRECATE"
    DISABLE = "DISABLE"
    DELETE = "DELETE"
    AVAILABLE = "AVAILABLE"


class LifecycleStatus(StrEnum):
    """Of a lifecycle execution."""

    IN_PROGRESS = "IN_PROGRESS"
    PENDING = "PENDING"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"


UNFINISHED_LIFECYCLE: Final = (LifecycleStatus.IN_PROGRESS, LifecycleStatus.PENDING, LifecycleStatus.CANCELLING)


class LifecycleOutcome(StrEnum):
    """Of one resource of a lifecycle execution."""

    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
