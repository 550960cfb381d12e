"""The action maps of the kinds of image: action -> function.

workflow_documents/actions.py has the inputs, outputs and times of each action; an action needs a row in both.

Both kinds may share documents, with conditions on `$.imagebuilder.imageType`; the refusals of actions that a kind
lacks are in the kind's module (builds/container_build.py, builds/machine_build.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.builds.steps import ami_distribution, machine
from imagesmith.builds.steps.commands import run_command
from imagesmith.builds.steps.components import execute_components
from imagesmith.builds.steps.context import Action, Outcome, StepRun
from imagesmith.builds.steps.distribution import distribute_container_image
from imagesmith.builds.steps.findings import collect_metadata, collect_scan_findings
from imagesmith.builds.steps.hooks import execute_state_machine
from imagesmith.builds.steps.instance import (
    bootstrap_for_container,
    terminate_instance,
    wait_for_agent,
)
from imagesmith.builds.steps.registration import register_image

WAIT: Final = "WaitForAction"
"""Actions that the run executes itself, because no process runs while they wait."""

LAUNCH: Final = "LaunchInstance"


def start_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Launch an instance with the kind of the image."""
    return run.kind.start(run, inputs)


CONTAINER_ACTIONS: Final[Mapping[str, Action]] = {
    LAUNCH: start_instance,
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
    LAUNCH: start_instance,
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
