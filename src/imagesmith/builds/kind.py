"""The interface of the two kinds of image; the rest of a build is the same for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.recipes.plan import BuildPlan, PlannedScan

if TYPE_CHECKING:
    from imagesmith.builds.steps.context import Action, Outcome, StepRun
    from imagesmith.builds.work import Work
    from imagesmith.builds.worker_context import WorkerContext

Finish = Callable[["StepRun", Mapping[str, Any]], dict[str, Any]]
"""A part of the end of a BUILD workflow: (work, outputs and values so far) -> more values. The value `digest` is
that of the output image. Raises the errors of actions."""


class BuildKind(Protocol):
    """Builds images of one kind. It has no state, and every method may run again after a crash."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """The actions that a workflow of this kind may have."""
        ...

    def refusal(self, action: str) -> str:
        """The reason why an action that is not in `actions` cannot be executed."""
        ...

    def start(self, run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
        """Launch an instance: on the parent in a BUILD workflow, later on the output image."""
        ...

    def without_components(self, plan: BuildPlan) -> str:
        """The reason why a BUILD workflow runs no components; empty when it does."""
        ...

    def finish(self, started: datetime) -> Sequence[tuple[str, Finish]]:
        """The parts of the end of a BUILD workflow that began at `started`, with names for the journal."""
        ...

    def adopt_parent(self, work: Work) -> str:
        """Make the parent the output image and return its digest (spec/workflows.md 7.2)."""
        ...

    def inventory(self, work: Work, digest: str) -> Inventory:
        """Read packages and operating system of the output image from outside. Raises DiskError, Cancelled."""
        ...

    def scan_target(self, work: Work, wanted: PlannedScan, digest: str) -> AbstractContextManager[ScanTarget]:
        """The output image in the form for scanners. Raises ScanFailed, PushFailed, Cancelled."""
        ...

    def distribute(self, work: Work, digest: str) -> Sequence[Mapping[str, Any]]:
        """Execute the distribution of the plan, without a workflow; returns members of outputResources.containers.

        Raises StepFailed, DistributionFailed, Cancelled.
        """
        ...

    def outputs(
        self,
        worker_context: WorkerContext,
        plan: BuildPlan,
        containers: Sequence[Mapping[str, Any]],
        *,
        built: bool,
    ) -> Mapping[str, Any] | None:
        """outputResources of an image that ended; `containers`: pushed images, `built`: it is AVAILABLE."""
        ...
