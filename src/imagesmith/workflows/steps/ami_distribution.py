"""DistributeImage, ModifyImageAttributes, ApplyImageConfigurations (spec/workflows.md 5.17 to 5.19)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.workflows.amis import copy_to_regions, insist_completed, permit
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.integration import integrate
from imagesmith.workflows.steps.context import Outcome, StepRun


def distribute_image(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """An entry in the catalog of every Region and account; one that fails fails the step, the others stay."""
    with run.timed("distribute"):
        told = copy_to_regions(run, inputs.get("distributions"))
    insist_completed(told)
    return Outcome({"distributedImages": told})


def modify_attributes(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Launch permissions of what a DistributeImage step distributed."""
    _known_regions(inputs, "attributes")
    told = permit(run, inputs["distributedImages"], inputs.get("attributes"))
    insist_completed(told, "modifiedImages")
    return Outcome({"modifiedImages": told})


def apply_configurations(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Launch templates, parameters and exports of what a DistributeImage step distributed."""
    _known_regions(inputs, "configurations")
    return Outcome({"configuredImages": integrate(run, inputs["distributedImages"], inputs.get("configurations"))})


def _known_regions(inputs: Mapping[str, Any], name: str) -> None:
    """Raise StepFailed for a Region that nothing was distributed to."""
    distributed = {str(item["region"]) for item in inputs["distributedImages"]}
    for item in inputs.get(name) or ():
        if item["region"] not in distributed:
            raise StepFailed(f"{name} names the Region {item['region']}, which no image was distributed to")
