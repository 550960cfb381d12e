"""Inputs that several step actions share, or that have members of their own (spec/workflows.md 5)."""

from __future__ import annotations

from typing import Final

from imagesmith.workflow_documents.inputs import Input

INSTANCE: Final = Input("instanceId", "string", "The instance, from the output of a launching step.", required=True)
DISTRIBUTED: Final = Input(
    "distributedImages", "images", "Output of a DistributeImage step of the same document.", required=True
)
REGION: Final = Input("region", "string", "The Region.", required=True, max_length=1024)


def text(name: str, description: str, *choices: str, required: bool = False) -> Input:
    return Input(name, "string", description, required=required, choices=choices)


def flag(name: str, description: str, *, default: bool | None = None, required: bool = False) -> Input:
    return Input(name, "boolean", description, default=default, required=required)


def texts(name: str, description: str) -> Input:
    return Input(name, "strings", description)


DISTRIBUTIONS: Final = Input(
    "distributions",
    "list",
    "Replaces the attached distribution configuration; each Region once.",
    unique="region",
    members=(
        REGION,
        text("name", "Name of the copy; `{{ imagebuilder:buildDate }}` and the like are allowed."),
        text("description", "Description of the copy."),
        texts("targetAccountIds", "Accounts that get a copy."),
        Input("amiTags", "tags", "Tags of the copy.", max_items=50),
        text("kmsKeyId", "Key that encrypts the copy."),
    ),
)
ATTRIBUTES: Final = Input(
    "attributes",
    "list",
    "Replaces the launch permissions of the attached distribution configuration.",
    members=(
        REGION,
        Input(
            "launchPermission",
            "map",
            "Who may launch the image.",
            members=(
                texts("userIds", "Accounts."),
                texts("userGroups", "Groups, such as `all`."),
                texts("organizationArns", "Organizations."),
                texts("organizationalUnitArns", "Organizational units."),
            ),
        ),
    ),
)
LAUNCH_TEMPLATES: Final = Input(
    "launchTemplateConfigurations",
    "list",
    "Launch templates that get the image.",
    members=(
        text("launchTemplateId", "The template.", required=True),
        text("accountId", "Its account."),
        flag("setDefaultVersion", "Whether the new version becomes the default."),
    ),
)
EXPORT: Final = Input(
    "s3ExportConfiguration",
    "list",
    "Where the disk is exported to; a mapping or a list of them.",
    loose=True,
    members=(
        text("roleName", "Role of the export.", required=True),
        text("diskImageFormat", "Format of the disk.", "VMDK", "RAW", "VHD", required=True),
        text("s3Bucket", "The bucket.", required=True),
        text("s3Prefix", "Beginning of the key."),
    ),
)
FAST_LAUNCH: Final = Input(
    "fastLaunchConfigurations",
    "list",
    "Faster launching of Windows images.",
    members=(
        flag("enabled", "Whether it is on.", required=True),
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
                text("launchTemplateId", "The template's id."),
                text("launchTemplateName", "The template's name."),
                text("launchTemplateVersion", "Its version."),
            ),
        ),
    ),
)
SSM_PARAMETERS: Final = Input(
    "ssmParameterConfigurations",
    "list",
    "Parameters that get the id of the image; a list or one mapping.",
    loose=True,
    members=(
        text("parameterName", "The parameter.", required=True),
        text("amiAccountId", "Account of the copy."),
        text("dataType", "Type of the parameter.", "text", "aws:ec2:image"),
    ),
)
CONFIGURATIONS: Final = Input(
    "configurations",
    "list",
    "Replaces those of the attached distribution configuration.",
    members=(
        REGION,
        texts("licenseConfigurationArns", "Licence configurations."),
        LAUNCH_TEMPLATES,
        EXPORT,
        FAST_LAUNCH,
        SSM_PARAMETERS,
    ),
)
REGISTER: Final = (
    text("architecture", "Architecture.", "i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"),
    Input("blockDeviceMapping", "list", "Block devices, in EC2's shape with capitalised keys."),
    text("bootMode", "Boot mode.", "legacy-bios", "uefi", "uefi-preferred"),
    text("description", "Description."),
    flag("enaSupport", "Enhanced networking."),
    text("imageLocation", "Manifest of an image that is backed by S3."),
    text("imdsSupport", "Version of the metadata service.", "v2.0"),
    flag("includeSnapshotTags", "Add the tags of the first mapped snapshot.", default=False),
    text("kernelId", "Kernel."),
    text("ramdiskId", "RAM disk."),
    text("rootDeviceName", "Root device."),
    text("sriovNetSupport", "SR-IOV networking."),
    text("tpmSupport", "Version of the TPM.", "v2.0"),
    text("uefiData", "UEFI variables, in base64."),
    text("virtualizationType", "Virtualization.", "hvm", "paravirtual"),
)
