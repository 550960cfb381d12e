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


_INSTANCE: Final = Input(
    "instanceId", "string", "The instance, from the output of a launching step.", required=True
)
_COMMAND: Final = (
    ActionOutput("runCommandId", "string", "Id of the command."),
    ActionOutput("status", "string", "`Success`; any other status fails the step."),
    ActionOutput("output", "string", "Standard output."),
)
_IMAGE_ID: Final = (ActionOutput("imageId", "string", "Id of the image."),)
_DISTRIBUTED: Final = Input(
    "distributedImages", "images", "Output of a DistributeImage step of the same document.", required=True
)
_REGION: Final = Input("region", "string", "The Region.", required=True, max_length=1024)


def _text(name: str, description: str, *choices: str, required: bool = False) -> Input:
    return Input(name, "string", description, required=required, choices=choices)


def _flag(name: str, description: str, *, default: bool | None = None, required: bool = False) -> Input:
    return Input(name, "boolean", description, default=default, required=required)


def _texts(name: str, description: str) -> Input:
    return Input(name, "strings", description)


def _images(name: str, steps: str) -> tuple[ActionOutput, ...]:
    description = f"One entry per Region and account, with `status` and `step`: {steps}."
    return (ActionOutput(name, "list of maps", description),)


_DISTRIBUTIONS: Final = Input(
    "distributions",
    "list",
    "Replaces the attached distribution configuration; each Region once.",
    unique="region",
    members=(
        _REGION,
        _text("name", "Name of the copy; `{{ imagebuilder:buildDate }}` and the like are allowed."),
        _text("description", "Description of the copy."),
        _texts("targetAccountIds", "Accounts that get a copy."),
        Input("amiTags", "tags", "Tags of the copy.", max_items=50),
        _text("kmsKeyId", "Key that encrypts the copy."),
    ),
)
_ATTRIBUTES: Final = Input(
    "attributes",
    "list",
    "Replaces the launch permissions of the attached distribution configuration.",
    members=(
        _REGION,
        Input(
            "launchPermission",
            "map",
            "Who may launch the image.",
            members=(
                _texts("userIds", "Accounts."),
                _texts("userGroups", "Groups, such as `all`."),
                _texts("organizationArns", "Organizations."),
                _texts("organizationalUnitArns", "Organizational units."),
            ),
        ),
    ),
)
_LAUNCH_TEMPLATES: Final = Input(
    "launchTemplateConfigurations",
    "list",
    "Launch templates that get the image.",
    members=(
        _text("launchTemplateId", "The template.", required=True),
        _text("accountId", "Its account."),
        _flag("setDefaultVersion", "Whether the new version becomes the default."),
    ),
)
_EXPORT: Final = Input(
    "s3ExportConfiguration",
    "list",
    "Where the disk is exported to; a mapping or a list of them.",
    loose=True,
    members=(
        _text("roleName", "Role of the export.", required=True),
        _text("diskImageFormat", "Format of the disk.", "VMDK", "RAW", "VHD", required=True),
        _text("s3Bucket", "The bucket.", required=True),
        _text("s3Prefix", "Beginning of the key."),
    ),
)
_FAST_LAUNCH: Final = Input(
    "fastLaunchConfigurations",
    "list",
    "Faster launching of Windows images.",
    members=(
        _flag("enabled", "Whether it is on.", required=True),
        Input(
            "snapshotConfiguration",
            "map",
            "Snapshots kept ready.",
            members=(Input("targetResourceCount", "integer", "How many.", minimum=1),),
        ),
        Input("maxParallelLaunches", "integer", "Launches at a time.", minimum=1),
        Input(
            "launchTemplate",
            "map",
            "Template of the launches, by id or by name.",
            members=(
                _text("launchTemplateId", "The template's id."),
                _text("launchTemplateName", "The template's name."),
                _text("launchTemplateVersion", "Its version."),
            ),
        ),
    ),
)
_SSM_PARAMETERS: Final = Input(
    "ssmParameterConfigurations",
    "list",
    "Parameters that get the id of the image; a list or one mapping.",
    loose=True,
    members=(
        _text("parameterName", "The parameter.", required=True),
        _text("amiAccountId", "Account of the copy."),
        _text("dataType", "Type of the parameter.", "text", "aws:ec2:image"),
    ),
)
_CONFIGURATIONS: Final = Input(
    "configurations",
    "list",
    "Replaces those of the attached distribution configuration.",
    members=(
        _REGION,
        _texts("licenseConfigurationArns", "Licence configurations."),
        _LAUNCH_TEMPLATES,
        _EXPORT,
        _FAST_LAUNCH,
        _SSM_PARAMETERS,
    ),
)
_REGISTER: Final = (
    _text("architecture", "Architecture.", "i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"),
    Input("blockDeviceMapping", "list", "Block devices, in EC2's shape with capitalised keys."),
    _text("bootMode", "Boot mode.", "legacy-bios", "uefi", "uefi-preferred"),
    _text("description", "Description."),
    _flag("enaSupport", "Enhanced networking."),
    _text("imageLocation", "Manifest of an image that is backed by S3."),
    _text("imdsSupport", "Version of the metadata service.", "v2.0"),
    _flag("includeSnapshotTags", "Add the tags of the first mapped snapshot.", default=False),
    _text("kernelId", "Kernel."),
    _text("ramdiskId", "RAM disk."),
    _text("rootDeviceName", "Root device."),
    _text("sriovNetSupport", "SR-IOV networking."),
    _text("tpmSupport", "Version of the TPM.", "v2.0"),
    _text("uefiData", "UEFI variables, in base64."),
    _text("virtualizationType", "Virtualization.", "hvm", "paravirtual"),
)


_ACTIONS: Final = (
    StepAction(
        name="ApplyImageConfigurations",
        summary="Licences, launch templates, parameters, fast launch and export of distributed images.",
        types=_DISTRIBUTION, default_timeout=21600, max_timeout=43200, inputs=(_DISTRIBUTED, _CONFIGURATIONS),
        outputs=_images(
            "configuredImages",
            "`Completed`, `AssociateLicensesRunning`, `UpdateLaunchTemplateRunning`, `PutSsmParametersRunning`, "
            "`UpdateFastLaunchConfiguration`, `ExportAmiQueued` or `ExportAmiRunning`",
        ),
    ),
    StepAction(
        name="BootstrapInstanceForContainer", summary="Prepares an instance for work with containers.",
        types=_ALL, default_timeout=3600, max_timeout=43200, inputs=(_INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="CollectImageMetadata", summary="Reads the version of the operating system and the list of packages.",
        types=_ALL, default_timeout=1800, max_timeout=43200, inputs=(_INSTANCE,),
        outputs=(
            ActionOutput("osVersion", "string", "Name and version of the operating system."),
            ActionOutput("associationId", "string", "Id of the inventory."),
        ),
        rollback="removes the inventory that it set up",
    ),
    StepAction(
        name="CollectImageScanFindings",
        summary="Scans for known vulnerabilities; scanning must be enabled for the image.",
        types=_TEST, default_timeout=7200, max_timeout=43200, inputs=(_INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="CreateImage", summary="Makes an image of a running instance.",
        types=_ALL, default_timeout=43200, max_timeout=259200, inputs=(_INSTANCE,), outputs=_IMAGE_ID
    ),
    StepAction(
        name="CreateImageFromIso", summary="Makes a disk of a Windows installation medium.",
        types=_ALL, default_timeout=43200, max_timeout=43200, inputs=(_INSTANCE,),
        outputs=(
            ActionOutput("amiName", "string", "Name for the image."),
            ActionOutput("snapshotId", "string", "Id of the disk."),
            ActionOutput("architecture", "string", "`x86_64` or `arm64`."),
        ),
    ),
    StepAction(
        name="DistributeContainerImage",
        summary="Pushes the container image to the repositories of the distribution.",
        types=_DISTRIBUTION, default_timeout=7200, max_timeout=43200, inputs=(_INSTANCE,),
        outputs=(
            ActionOutput("status", "string", "Overall status."),
            ActionOutput("succeededRegions", "list of strings", "Regions that have the image."),
            ActionOutput("failedRegions", "list of strings", "Regions without the image; any fails the step."),
        ),
    ),
    StepAction(
        name="DistributeImage", summary="Copies the machine image to Regions and accounts.",
        types=_DISTRIBUTION, default_timeout=21600, max_timeout=43200, inputs=(_DISTRIBUTIONS,),
        outputs=_images("distributedImages", "`Completed` or `CopyAmiRunning`"),
    ),
    StepAction(
        name="ExecuteComponents",
        summary="Runs the components of the recipe: build and validate phases in BUILD, test phases in TEST.",
        types=_BUILD_TEST, default_timeout=43200, max_timeout=86400, inputs=(_INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="ExecuteStateMachine", summary="Runs a state machine and waits for its end.",
        types=_ALL, default_timeout=21600, max_timeout=86400,
        inputs=(
            _text("stateMachineArn", "The state machine.", required=True),
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
            _text("waitFor", "What to wait for.", "ssmAgent", required=True),
            Input(
                "healthCheck", "string", "Health to reach.", default="STATUS_CHECK_PASSED",
                choices=("RUNNING", "STATUS_CHECK_PASSED"),
            ),
            _text("imageIdOverride", "Image to launch instead of the recipe's, or the built one in later stages."),
            _texts("instanceTypesOverride", "Types to try in order, instead of the infrastructure's."),
        ),
        outputs=(ActionOutput("instanceId", "string", "The instance."),),
        rollback="terminates the instance, unless the infrastructure keeps it on failure",
    ),
    StepAction(
        name="ModifyImageAttributes", summary="Sets who may launch distributed images.",
        types=_DISTRIBUTION, default_timeout=7200, max_timeout=10800, inputs=(_DISTRIBUTED, _ATTRIBUTES),
        outputs=_images("modifiedImages", "`Completed` or `ModifyAmiRunning`"),
    ),
    StepAction(
        name="RegisterImage", summary="Registers an image from existing disks.",
        types=_ALL, default_timeout=32400, max_timeout=43200, inputs=_REGISTER, outputs=_IMAGE_ID
    ),
    StepAction(
        name="RunCommand", summary="Runs a command document on an instance.",
        types=_ALL, default_timeout=43200, max_timeout=43200,
        inputs=(
            _INSTANCE,
            _text("documentName", "The command document, such as `AWS-RunShellScript`.", required=True),
            Input("documentVersion", "string", "Its version.", default="$DEFAULT"),
            Input("parameters", "arguments", "Lists of strings by name, as the document requires them."),
        ),
        outputs=(*_COMMAND[:2], ActionOutput("output", "list of strings", "Standard output, one entry per part.")),
    ),
    StepAction(
        name="RunSysPrep", summary="Generalizes a Windows instance.",
        types=_ALL, default_timeout=3600, max_timeout=43200, inputs=(_INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="SanitizeInstance", summary="Removes keys, logs and identities from a Linux instance.",
        types=_ALL, default_timeout=3600, max_timeout=43200, inputs=(_INSTANCE,), outputs=_COMMAND,
    ),
    StepAction(
        name="TerminateInstance", summary="Terminates an instance; succeeds if it no longer exists.",
        types=_ALL, default_timeout=1800, max_timeout=43200,
        inputs=(_INSTANCE, _flag("waitForTermination", "Wait until it is gone.", default=False)),
    ),
    StepAction(
        name="WaitForAction", summary="Pauses until RESUME or STOP is sent.",
        types=_ALL, default_timeout=259200, max_timeout=604800,
        inputs=(
            _text("snsTopicArn", "Topic that is notified."),
            _text("lambdaFunctionName", "Function that is invoked, by name or ARN."),
            Input("payload", "string", "Text of the notification, at most 16 KiB.", max_length=MAX_JSON_BYTES),
        ),
        outputs=(
            ActionOutput("action", "string", "`RESUME` or `STOP`."),
            ActionOutput("reason", "string", "Reason that was sent; absent without one."),
        ),
    ),
    StepAction(
        name="WaitForSSMAgent", summary="Waits until an instance is ready again after a restart.",
        types=_ALL, default_timeout=3600, max_timeout=10800, inputs=(_INSTANCE,),
        outputs=(ActionOutput("status", "string", "`Online`."),),
    ),
)  # fmt: skip


@functools.cache
def step_actions() -> Mapping[str, StepAction]:
    """Every action by name, in the order of their names."""
    return MappingProxyType({action.name: action for action in _ACTIONS})
