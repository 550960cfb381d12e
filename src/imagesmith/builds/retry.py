"""Retries: an image that did not succeed returns to its test or distribution phase (spec/workflows.md 11.2).

    FAILED | CANCELLED -> TESTING -> DISTRIBUTING -> ...     a run of the engine of its own (journal.retry_key)
                       '------------> DISTRIBUTING -> ...

The store keeps from the run before: the plan, the output AMI or container image, and the outputs of the finished
workflows. Repeated workflows have records of their own: the records of the first try stay, and are `retried`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imagesmith.builds.journal import retry_key
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.records import Build
from imagesmith.values.states import ImageStatus
from imagesmith.workflow_documents.document import WorkflowType

REPEATED: Final[Mapping[ImageStatus, WorkflowType]] = {
    ImageStatus.TESTING: "TEST", ImageStatus.DISTRIBUTING: "DISTRIBUTION",
}  # fmt: skip
"""First stage of a retry -> type of its first workflows."""

_AFTER: Final[Mapping[str, ImageStatus]] = {
    ImageStatus.TESTING: ImageStatus.TESTING,
    ImageStatus.DISTRIBUTING: ImageStatus.DISTRIBUTING,
    ImageStatus.INTEGRATING: ImageStatus.DISTRIBUTING,
}  # fmt: skip


def current_key(build: Build) -> str:
    """The key of the latest run of an image."""
    return retry_key(build.image_arn, build.outcome.retry.number)


def phase_to_repeat(plan: BuildPlan, ended_in: str, *, built: bool) -> ImageStatus | None:
    """The first stage of a retry of a run that ended in a state; None without an output image.

    `built`: the BUILD workflow ended before the run did.
    """
    if ended_in in _AFTER:
        return _AFTER[ended_in]
    if not built:
        return None
    scans = plan.scan is not None and plan.scan.on_demand
    tests = plan.tests_enabled and any(item.type == "TEST" for item in plan.workflows)
    return ImageStatus.TESTING if scans or tests else ImageStatus.DISTRIBUTING
