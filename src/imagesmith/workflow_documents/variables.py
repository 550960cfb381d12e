"""The system variables of `$.imagebuilder` (spec/workflows.md 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_EMPTY: Final[Mapping[str, Any]] = {"string": "", "list of strings": (), "map": {}}


@dataclass(frozen=True)
class Variable:
    """`type` is string, boolean, integer, list of strings or map."""

    name: str
    type: str
    description: str

    @property
    def absent(self) -> Any:
        """The value when the configuration states none; None when there always is one."""
        return list(_EMPTY[self.type]) if self.type == "list of strings" else _EMPTY.get(self.type)


VARIABLES: Final = (
    Variable("cloudWatchLogGroup", "string", "The log group of the image."),
    Variable("cloudWatchLogStream", "string", "`<version>/<build>`, such as `1.0.0/1`."),
    Variable("collectImageMetadata", "boolean", "enhancedImageMetadataEnabled of the request."),
    Variable("collectImageScanFindings", "boolean", "imageScanningEnabled of the request."),
    Variable("dateTime", "string", "When the image build began, in UTC; the same in all its workflows."),
    Variable("imageBuildNumber", "integer", "Build number of the image."),
    Variable("imageId", "string", "Id of the base image."),
    Variable("imageName", "string", "Name of the image."),
    Variable("imageType", "string", "`AMI` or `DOCKER`."),
    Variable("imageVersionNumber", "string", "Version of the image, such as `1.0.0`."),
    Variable("instanceProfileName", "string", "From the infrastructure configuration."),
    Variable("platform", "string", "`Linux`, `Windows` or `macOS`."),
    Variable("s3Logs", "map", "Where logs go, as in the infrastructure configuration; empty when off."),
    Variable("securityGroups", "list of strings", "Security groups of the instances."),
    Variable("sourceImageARN", "string", "ARN of the image that is built."),
    Variable("subnetId", "string", "Subnet of the instances."),
    Variable("terminateInstanceOnFailure", "boolean", "From the infrastructure configuration; true by default."),
    Variable("workflowPhase", "string", "`Build`, `Test` or `Distribution`."),
    Variable("workingDirectory", "string", "Working directory of the recipe."),
)


def find_variable(name: str) -> Variable | None:
    """The variable of a name: first as written, then in any letter case (spec/workflows.md 3.5)."""
    exact = next((item for item in VARIABLES if item.name == name), None)
    return exact or next((item for item in VARIABLES if item.name.lower() == name.lower()), None)
