"""DistributeContainerImage: the output image into the repositories of the distribution (spec/workflows.md 5.20)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.builds.evidence import keep_evidence
from imagesmith.builds.revoked_images import refuse_revoked
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.distribution.containers import distribute


def distribute_container_image(run: StepRun, _inputs: Mapping[str, Any]) -> Outcome:
    """Push to every target. The image is in the layout since the build, so no running instance is needed."""
    refuse_revoked(run)
    with run.timed("push"):
        keep_evidence(run, run.output_digest())
        done = distribute(run.distribution, run.output_digest())
    outputs = {"status": "Completed", "succeededRegions": list(done.regions), "failedRegions": []}
    return Outcome(outputs, containers=done.containers)
