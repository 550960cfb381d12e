"""Which function carries out which action for which kind of image.

An action that a kind of image cannot have fails with one sentence that says so: documents may be shared by both
kinds, with conditions on `$.imagebuilder.imageType`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.steps import ami_distribution, machine
from imagesmith.workflows.steps.commands import run_command
from imagesmith.workflows.steps.components import execute_components
from imagesmith.workflows.steps.context import Action, Outcome, StepRun
from imagesmith.workflows.steps.distribution import distribute_container_image
from imagesmith.workflows.steps.findings import collect_metadata, collect_scan_findings
from imagesmith.workflows.steps.hooks import execute_state_machine
from imagesmith.workflows.steps.instance import (
    bootstrap_for_container,
    launch_instance,
    terminate_instance,
    wait_for_agent,
)
from imagesmith.workflows.steps.registration import register_image

WAIT: Final = "WaitForAction"
"""Carried out by the run itself, because nothing runs while it waits."""

LAUNCH: Final = "LaunchInstance"

CONTAINER_ACTIONS: Final[Mapping[str, Action]] = {
    LAUNCH: launch_instance,
    "BootstrapInstanceForContainer": bootstrap_for_container,
    "CollectImageMetadata": collect_metadata,
    "CollectImageScanFindings": collect_scan_findings,
    "DistributeContainerImage": distribute_container_image,
    "ExecuteComponents": execute_components,
    "ExecuteStateMachine": execute_state_machine,
    "RunCommand": run_command,
    "TerminateInstance": terminate_instance,
    "WaitForSSMAgent": wait_for_agent,
}


MACHINE_ACTIONS: Final[Mapping[str, Action]] = {
    LAUNCH: machine.launch_instance,
    "ApplyImageConfigurations": ami_distribution.apply_configurations,
    "CollectImageMetadata": machine.collect_metadata,
    "CollectImageScanFindings": collect_scan_findings,
    "CreateImage": machine.create_image,
    "DistributeImage": ami_distribution.distribute_image,
    "ExecuteComponents": execute_components,
    "ExecuteStateMachine": execute_state_machine,
    "ModifyImageAttributes": ami_distribution.modify_attributes,
    "RegisterImage": register_image,
    "RunCommand": run_command,
    "SanitizeInstance": machine.sanitize_instance,
    "TerminateInstance": terminate_instance,
    "WaitForSSMAgent": wait_for_agent,
}
_UNBUILT: Final[Mapping[str, str]] = {
    "CreateImageFromIso": "installation media are not built by this version",
    "RunSysPrep": "Windows machines are not built by this version",
}


def action_of(kind: str, name: str) -> Action:
    """The function of an action for images of a kind (`container` or `machine`)."""
    if kind == "machine":
        return MACHINE_ACTIONS.get(name, _refuse_machine(name))
    return CONTAINER_ACTIONS.get(name, _refuse(kind, name))


def _refuse_machine(name: str) -> Action:
    def refuse(_run: StepRun, _inputs: Mapping[str, Any]) -> Outcome:
        reason = _UNBUILT.get(name, "it is for container images, and this run makes a machine image")
        raise StepFailed(f"{name} cannot be carried out: {reason}")

    return refuse


def _refuse(kind: str, name: str) -> Action:
    def refuse(_run: StepRun, _inputs: Mapping[str, Any]) -> Outcome:
        raise StepFailed(
            f"{name} is for machine images, and this run makes a {kind} image; take the step out, or run it only "
            "if $.imagebuilder.imageType is AMI"
        )

    return refuse
