"""DistributeImage, ModifyImageAttributes, ApplyImageConfigurations (spec/workflows.md 5.17 to 5.19)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.builds.evidence import keep_evidence
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.machine_output import require_disk
from imagesmith.builds.revoked_images import refuse_revoked
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.distribution.ami_post_distribution import integrate
from imagesmith.distribution.amis import copy_to_regions, require_completed, set_launch_permissions


def distribute_image(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Write an entry for every Region and account; a failed entry fails the step, the other entries stay."""
    refuse_revoked(run)
    require_disk(run, run.output_digest())
    keep_evidence(run, run.output_digest())
    with run.timed("distribute"):
        results = copy_to_regions(run.distribution, inputs.get("distributions"))
    require_completed(results)
    return Outcome({"distributedImages": results})


def modify_attributes(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Set launch permissions of the AMIs of a DistributeImage step."""
    refuse_revoked(run)
    _require_regions(inputs, "attributes")
    results = set_launch_permissions(run.distribution, inputs["distributedImages"], inputs.get("attributes"))
    require_completed(results, "modifiedImages")
    return Outcome({"modifiedImages": results})


def apply_configurations(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Write launch templates, parameters and exports for the AMIs of a DistributeImage step."""
    refuse_revoked(run)
    _require_regions(inputs, "configurations")
    results = integrate(run.distribution, inputs["distributedImages"], inputs.get("configurations"))
    return Outcome({"configuredImages": results})


def _require_regions(inputs: Mapping[str, Any], name: str) -> None:
    """Raise StepFailed for a Region without a distributed AMI."""
    distributed = {str(item["region"]) for item in inputs["distributedImages"]}
    for item in inputs.get(name) or ():
        if item["region"] not in distributed:
            raise StepFailed(f"{name} names the Region {item['region']}, which no image was distributed to")
