"""DistributeImage: the distribution phase alone, for an AMI that exists (spec/api.md 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imagesmith.recipes.kinds import MACHINE
from imagesmith.recipes.parents import ParentKind, classify_parent, is_ami_id
from imagesmith.recipes.plan import PlannedParent
from imagesmith.resources.call import Call
from imagesmith.resources.disk_runs import DiskRun, start_disk_run
from imagesmith.resources.errors import invalid_request, invalid_value, not_found
from imagesmith.resources.resolution import MANAGED_OWNER, require
from imagesmith.resources.resolved_runs import planned_image, stored_parameter
from imagesmith.resources.roles import check_role
from imagesmith.store import amis
from imagesmith.store.amis import Ami, may_launch
from imagesmith.values.api import ApiRequest, ApiResponse

_SOURCE: Final = "sourceImage"
_CONFIGURATION: Final = "distributionConfigurationArn"
_FIRST_VERSION: Final = "1.0.0"


@dataclass(frozen=True, kw_only=True)
class _SourceImage:
    """A disk that exists, and the identity of images that distribute it."""

    parent: PlannedParent
    name: str
    version: str = _FIRST_VERSION
    platform: str
    os_version: str = ""
    image_source: str = "CUSTOM"


def distribute(call: Call, request: ApiRequest) -> ApiResponse:
    """Start a run that only distributes; returns the new image, which tracks it."""
    check_role(call, request)
    configuration = require(call, request[_CONFIGURATION], "distribution-configuration", path=_CONFIGURATION)
    source = _source_image(call, request[_SOURCE])
    image = start_disk_run(
        call,
        DiskRun(
            purpose="distribute", parent=source.parent, name=source.name, version=source.version,
            platform=source.platform, os_version=source.os_version, build_type="USER_INITIATED",
            image_source=source.image_source, distribution=configuration.to_api(),
            execution_role=request["executionRole"],
            log_group=request.get("loggingConfiguration", {}).get("logGroupName", ""),
            tags=request.get("tags", {}),
        ),
    )  # fmt: skip
    return {"imageBuildVersionArn": image.arn}


def _source_image(call: Call, text: str) -> _SourceImage:
    """The source in any of its forms: an image ARN, an `ssm:` reference, an AMI id. Raises ApiError."""
    kind = classify_parent(text).kind
    if kind is ParentKind.IMAGE:
        return _of_image(call, text)
    if kind is ParentKind.SSM:
        value = stored_parameter(call, text)
        if value is None:
            raise not_found("Image", text)
        if not is_ami_id(value):
            raise invalid_request(f"The parameter {text} does not hold the id of an AMI.")
        return _of_ami(call, value)
    if kind is ParentKind.AMI:
        return _of_ami(call, text)
    raise invalid_value(_SOURCE, f"'{text}' is neither an AMI id nor an ssm: reference nor the ARN of an image.")


def _of_image(call: Call, text: str) -> _SourceImage:
    parent, record = planned_image(call, text, path=_SOURCE)
    document = record.document
    if document.get("type") != MACHINE.image_type:
        raise invalid_request(f"The image {record.arn} is not an AMI, and only AMIs are distributed again.")
    if record.account != MANAGED_OWNER and not amis.list_amis(call.tx, region=call.region, image_arn=record.arn):
        raise invalid_request(f"The image {record.arn} has no AMI in {call.region}.")
    return _SourceImage(
        parent=parent,
        name=record.name,
        version=record.parsed.version or _FIRST_VERSION,
        platform=str(document.get("platform", "Linux")),
        os_version=str(document.get("osVersion", "")),
        image_source=str(document.get("imageSource", "CUSTOM")),
    )


def _of_ami(call: Call, ami_id: str) -> _SourceImage:
    ami = amis.get_ami(call.tx, ami_id)
    if ami is None or ami.region != call.region or not may_launch(ami, call.account):
        raise not_found("Image", ami_id)
    return _SourceImage(parent=PlannedParent("machine", ami_id), name=ami.name, platform=_platform(ami))


def _platform(ami: Ami) -> str:
    return str(ami.document.get("platform", "Linux"))
