"""DistributeContainerImage: the output image into the repositories of the distribution (spec/workflows.md 5.20)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.workflows.push import distribute
from imagesmith.workflows.steps.context import Outcome, StepRun


def distribute_container_image(run: StepRun, _inputs: Mapping[str, Any]) -> Outcome:
    """Push to every target. The image is in the layout since the build, so the instance need not run any more."""
    with run.timed("push"):
        done = distribute(run, run.output_digest())
    outputs = {"status": "Completed", "succeededRegions": list(done.regions), "failedRegions": []}
    return Outcome(outputs, containers=done.containers)
