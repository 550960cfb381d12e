"""ImportVmImage and ImportDiskImage: images from disks that were made elsewhere (spec/api.md 5.3).

There is no EC2 here with import tasks, so ImportVmImage reads the disk itself: `vmImportTaskId` is the `s3://`
address of a qcow2 or raw disk.
"""

from __future__ import annotations

import re
from typing import Final

from imagesmith.recipes.plan import PlannedParent
from imagesmith.resources.call import Call
from imagesmith.resources.disk_runs import DiskRun, start_disk_run
from imagesmith.resources.errors import client_error, invalid_combination, invalid_value
from imagesmith.resources.resolution import exact_version, require
from imagesmith.resources.roles import check_role
from imagesmith.settings import Settings
from imagesmith.values.api import ApiRequest, ApiResponse

_NAME: Final = re.compile(r"[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,126}[-_A-Za-z0-9]")
_OBJECT: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f\x7f]{1,900}")
_ISO: Final = (".iso", ".ISO", ".Iso")
_WINDOWS: Final = "Windows"
_WINDOWS_11: Final = "Microsoft Windows 11"
_INFRASTRUCTURE: Final = "infrastructureConfigurationArn"


def check_disk(request: ApiRequest, _settings: Settings) -> None:
    """Members of ImportVmImage that can be told from the request alone. Raises ApiError."""
    name, task = request["name"], request["vmImportTaskId"]
    if not _NAME.fullmatch(name):
        raise invalid_value("name", f"name must match pattern ^{_NAME.pattern}$")
    if request["platform"] == "macOS":
        raise invalid_value("platform", "Disks of macOS cannot be imported; import one of Linux or Windows.")
    if not _OBJECT.fullmatch(task):
        raise invalid_value(
            "vmImportTaskId",
            f"EC2's import tasks do not exist here, so '{task[:80]}' is unknown. Put the disk into a bucket and "
            "name it as s3://bucket/key.",
        )


def import_vm(call: Call, request: ApiRequest) -> ApiResponse:
    """Start the import of a disk; returns the new image, which is PENDING until its AMI exists."""
    image = start_disk_run(
        call,
        DiskRun(
            purpose="import", parent=PlannedParent("object", request["vmImportTaskId"]), name=request["name"],
            version=request["semanticVersion"], platform=request["platform"],
            os_version=request.get("osVersion", ""), build_type="IMPORT", image_source="IMPORTED",
            description=request.get("description", ""),
            log_group=request.get("loggingConfiguration", {}).get("logGroupName", ""), tags=request.get("tags", {}),
        ),
    )  # fmt: skip
    return {"imageArn": image.arn}


def check_iso(request: ApiRequest, _settings: Settings) -> None:
    """Members of ImportDiskImage that can be told from the request alone. Raises ApiError."""
    exact_version(request["semanticVersion"])
    if request["platform"] != _WINDOWS:
        raise invalid_value("platform", f"The only platform of an ISO is {_WINDOWS}.")
    if request["osVersion"] != _WINDOWS_11:
        raise invalid_value("osVersion", f"The only version of an ISO is {_WINDOWS_11}.")
    if not _OBJECT.fullmatch(request["uri"]) or not request["uri"].endswith(_ISO):
        raise invalid_value("uri", f"The ISO must be an object like s3://bucket/key with one of {', '.join(_ISO)}.")
    options = request.get("registerImageOptions", {})
    if "uefiData" in options and options.get("secureBootEnabled") is False:
        raise invalid_combination("registerImageOptions.uefiData", "uefiData needs Secure Boot.")


def import_iso(call: Call, request: ApiRequest) -> ApiResponse:
    """Start an installation from an ISO; returns the new image, which is PENDING until its AMI exists."""
    options = request.get("registerImageOptions", {})
    check_role(call, request)
    found = require(call, request[_INFRASTRUCTURE], "infrastructure-configuration", path=_INFRASTRUCTURE)
    if "uefiData" in options:
        raise client_error(
            "Machines here start with the variables of their firmware, so registerImageOptions.uefiData cannot be "
            "obeyed; leave it out."
        )
    image = start_disk_run(
        call,
        DiskRun(
            purpose="install", parent=PlannedParent("object", request["uri"]), name=request["name"],
            version=request["semanticVersion"], platform=_WINDOWS, os_version=_WINDOWS_11, build_type="IMPORT_ISO",
            image_source="IMPORTED", description=request.get("description", ""),
            execution_role=request.get("executionRole", ""),
            log_group=request.get("loggingConfiguration", {}).get("logGroupName", ""), tags=request.get("tags", {}),
            instance_types=tuple(found.document.get("instanceTypes", ())),
            image_index=request.get("windowsConfiguration", {}).get("imageIndex", 1),
            secure_boot=options.get("secureBootEnabled", True),
        ),
    )  # fmt: skip
    return {"imageBuildVersionArn": image.arn}
