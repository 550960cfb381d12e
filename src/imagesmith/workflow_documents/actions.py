"""The step actions: workflow types, times, inputs and outputs of each (spec/workflows.md 5).

One table for three readers: the checks of a document, the reference page, and the run. builds/steps/table.py maps
each action to the function that executes it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from imagesmith.workflow_documents.action_inputs import (
    ATTRIBUTES,
    CONFIGURATIONS,
    DISTRIBUTED,
    DISTRIBUTIONS,
    INSTANCE,
    REGISTER,
    flag,
    text,
    texts,
)
from imagesmith.workflow_documents.document import WorkflowType
from imagesmith.workflow_documents.inputs import Input

MAX_JSON_BYTES: Final = 16384
_ALL: Final[frozenset[WorkflowType]] = frozenset({"BUILD", "TEST", "DISTRIBUTION"})
_BUILD_TEST: Final[frozenset[WorkflowType]] = frozenset({"BUILD", "TEST"})
_TEST: Final[frozenset[WorkflowType]] = frozenset({"TEST"})
_DISTRIBUTION: Final[frozenset[WorkflowType]] = frozenset({"DISTRIBUTION"})

MACHINE_DISTRIBUTION: Final = frozenset({"DistributeImage", "ModifyImageAttributes", "ApplyImageConfigurations"})
"""Distribution actions of machine images: never in one document with actions of container images
(spec/workflows.md 5.1)."""
CONTAINER_DISTRIBUTION: Final = frozenset({"DistributeContainerImage"})


@dataclass(frozen=True)
class ActionOutput:
    """An output that a step action sets."""

    name: str
    type: str
    description: str = ""


@dataclass(frozen=True)
class StepAction:
    """Times are in seconds. `rollback` describes the action's rollback; empty: nothing to do
    (spec/workflows.md 6.4)."""

    name: str
    summary: str
    types: frozenset[WorkflowType]
    default_timeout: int
    max_timeout: int
    inputs: tuple[Input, ...] = ()
    outputs: tuple[ActionOutput, ...] = ()
    rollback: str = ""

    def input(self, name: str) -> Input | None:
        return next((spec for spec in self.inputs if spec.name == name), None)

    @property
    def has_required_input(self) -> bool:
        return any(spec.required for spec in self.inputs)


_COMMAND: Final = (
    ActionOutput("runCommandId", "string", "Id of the command."),
    ActionOutput("status", "string", "`Success`; any other status fails the step."),
    ActionOutput("output", "string", "Standard output."),
)
_IMAGE_ID: Final = (ActionOutput("imageId", "string", "Id of the image."),)


def _images(name: str, steps: str) -> tuple[ActionOutput, ...]:
    description = f"One entry per Region and account, with `status` and `step`: {steps}."
    return (ActionOutput(name, "list of maps", description),)


_ACTIONS: Final = (
    StepAction(
        name="ApplyImageConfigurations",
        summary="Licences, launch templates, parameters, fast launch and export of distributed images.",
        types=_DISTRIBUTION, default_timeout=21600, max_timeout=43200, inputs=(DISTRIBUTED, CONFIGURATIONS),
        outputs=_images(
            "configuredImages",
            "`Completed`, `AssociateLicensesRunning`, `UpdateLaunchTemplateRunning`, `PutSsmParametersRunning`, "
            "`UpdateFastLaunchConfiguration`, `ExportAmiQueued` or `ExportAmiRunning`",
        ),
    ),
    StepAction(
        name="BootstrapInstanceForContainer", summary="Prepares an instance for work with containers.",
        types=_ALL, default_timeout=3600, max_timeout=43200, inputs=(INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="CollectImageMetadata", summary="Reads the version of the operating system and the list of packages.",
        types=_ALL, default_timeout=1800, max_timeout=43200, inputs=(INSTANCE,),
        outputs=(
            ActionOutput("osVersion", "string", "Name and version of the operating system."),
            ActionOutput("associationId", "string", "Id of the inventory."),
        ),
        rollback="removes the inventory that it set up",
    ),
    StepAction(
        name="CollectImageScanFindings",
        summary="Scans for known vulnerabilities; scanning must be enabled for the image.",
        types=_TEST, default_timeout=7200, max_timeout=43200, inputs=(INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="CreateImage", summary="Makes an image of a running instance.",
        types=_ALL, default_timeout=43200, max_timeout=259200, inputs=(INSTANCE,), outputs=_IMAGE_ID
    ),
    StepAction(
        name="CreateImageFromIso", summary="Makes a disk of a Windows installation medium.",
        types=_ALL, default_timeout=43200, max_timeout=43200, inputs=(INSTANCE,),
        outputs=(
            ActionOutput("amiName", "string", "Name for the image."),
            ActionOutput("snapshotId", "string", "Id of the disk."),
            ActionOutput("architecture", "string", "`x86_64` or `arm64`."),
        ),
    ),
    StepAction(
        name="DistributeContainerImage",
        summary="Pushes the container image to the repositories of the distribution.",
        types=_DISTRIBUTION, default_timeout=7200, max_timeout=43200, inputs=(INSTANCE,),
        outputs=(
            ActionOutput("status", "string", "Overall status."),
            ActionOutput("succeededRegions", "list of strings", "Regions that have the image."),
            ActionOutput("failedRegions", "list of strings", "Regions without the image; any fails the step."),
        ),
    ),
    StepAction(
        name="DistributeImage", summary="Copies the machine image to Regions and accounts.",
        types=_DISTRIBUTION, default_timeout=21600, max_timeout=43200, inputs=(DISTRIBUTIONS,),
        outputs=_images("distributedImages", "`Completed` or `CopyAmiRunning`"),
    ),
    StepAction(
        name="ExecuteComponents",
        summary="Runs the components of the recipe: build and validate phases in BUILD, test phases in TEST.",
        types=_BUILD_TEST, default_timeout=43200, max_timeout=86400, inputs=(INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="ExecuteStateMachine", summary="Runs a state machine and waits for its end.",
        types=_ALL, default_timeout=21600, max_timeout=86400,
        inputs=(
            text("stateMachineArn", "The state machine.", required=True),
            Input(
                "input", "json", "JSON text, at most 16 KiB; a mapping is written out.", default="{}",
                max_length=MAX_JSON_BYTES,
            ),
        ),
        outputs=(
            ActionOutput("executionArn", "string", "The execution."),
            ActionOutput("output", "string", "Its output, as JSON text."),
            ActionOutput("status", "string", "`SUCCEEDED`; any other fails the step."),
        ),
    ),
    StepAction(
        name="LaunchInstance", summary="Starts an instance and waits until it is ready.",
        types=_ALL, default_timeout=4500, max_timeout=43200,
        inputs=(
            text("waitFor", "What to wait for.", "ssmAgent", required=True),
            Input(
                "healthCheck", "string", "Health to reach.", default="STATUS_CHECK_PASSED",
                choices=("RUNNING", "STATUS_CHECK_PASSED"),
            ),
            text("imageIdOverride", "Image to launch instead of the recipe's, or the built one in later stages."),
            texts("instanceTypesOverride", "Types to try in order, instead of the infrastructure's."),
        ),
        outputs=(ActionOutput("instanceId", "string", "The instance."),),
        rollback="terminates the instance, unless the infrastructure keeps it on failure",
    ),
    StepAction(
        name="ModifyImageAttributes", summary="Sets who may launch distributed images.",
        types=_DISTRIBUTION, default_timeout=7200, max_timeout=10800, inputs=(DISTRIBUTED, ATTRIBUTES),
        outputs=_images("modifiedImages", "`Completed` or `ModifyAmiRunning`"),
    ),
    StepAction(
        name="RegisterImage", summary="Registers an image from existing disks.",
        types=_ALL, default_timeout=32400, max_timeout=43200, inputs=REGISTER, outputs=_IMAGE_ID
    ),
    StepAction(
        name="RunCommand", summary="Runs a command document on an instance.",
        types=_ALL, default_timeout=43200, max_timeout=43200,
        inputs=(
            INSTANCE,
            text("documentName", "The command document, such as `AWS-RunShellScript`.", required=True),
            Input("documentVersion", "string", "Its version.", default="$DEFAULT"),
            Input("parameters", "arguments", "Lists of strings by name, as the document requires them."),
        ),
        outputs=(*_COMMAND[:2], ActionOutput("output", "list of strings", "Standard output, one entry per part.")),
    ),
    StepAction(
        name="RunSysPrep", summary="Generalizes a Windows instance.",
        types=_ALL, default_timeout=3600, max_timeout=43200, inputs=(INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="SanitizeInstance", summary="Removes keys, logs and identities from a Linux instance.",
        types=_ALL, default_timeout=3600, max_timeout=43200, inputs=(INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="TerminateInstance", summary="Terminates an instance; succeeds if it no longer exists.",
        types=_ALL, default_timeout=1800, max_timeout=43200,
        inputs=(INSTANCE, flag("waitForTermination", "Wait until it is gone.", default=False)),
    ),
    StepAction(
        name="WaitForAction", summary="Pauses until RESUME or STOP is sent.",
        types=_ALL, default_timeout=259200, max_timeout=604800,
        inputs=(
            text("snsTopicArn", "Topic that is notified."),
            text("lambdaFunctionName", "Function that is invoked, by name or ARN."),
            Input("payload", "string", "Text of the notification, at most 16 KiB.", max_length=MAX_JSON_BYTES),
        ),
        outputs=(
            ActionOutput("action", "string", "`RESUME` or `STOP`."),
            ActionOutput("reason", "string", "Reason that was sent; absent without one."),
        ),
    ),
    StepAction(
        name="WaitForSSMAgent", summary="Waits until an instance is ready again after a restart.",
        types=_ALL, default_timeout=3600, max_timeout=10800, inputs=(INSTANCE,),
        outputs=(ActionOutput("status", "string", "`Online`."),),
    ),
)  # fmt: skip


@functools.cache
def step_actions() -> Mapping[str, StepAction]:
    """Every action by name, in the order of their names."""
    return MappingProxyType({action.name: action for action in _ACTIONS})
