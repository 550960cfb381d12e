"""Infrastructure configurations: where and how builds run (spec/api.md 6.4)."""

from __future__ import annotations

from imagesmith.resources import configurations
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import ConfigurationKind, select_members
from imagesmith.resources.errors import invalid_combination, invalid_request, invalid_value
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest

_SETTABLE = (
    "description", "instanceTypes", "instanceProfileName", "securityGroupIds", "subnetId", "logging", "keyPair",
    "snsTopicArn", "resourceTags", "instanceMetadataOptions", "placement", "parentInstance",
)  # fmt: skip
_SUMMARY = (
    "arn", "name", "description", "dateCreated", "dateUpdated", "resourceTags", "instanceTypes",
    "instanceProfileName", "placement", "parentInstance",
)  # fmt: skip
_RESERVED_TAGS = frozenset({"CreatedBy", "Ec2ImageBuilderArn", "Name", "Tags"})


_UNUSED = (
    "instanceProfileName", "keyPair", "placement", "resourceTags", "securityGroupIds", "snsTopicArn", "subnetId",
)  # fmt: skip
_UNUSED_BY_CONTAINERS = ("instanceTypes", "instanceMetadataOptions")


def unused_members(document: ApiRequest, *, container: bool) -> tuple[str, ...]:
    """Members that are set and have no effect on builds of this host."""
    names = (*_UNUSED, *(_UNUSED_BY_CONTAINERS if container else ()))
    return tuple(name for name in names if document.get(name))


def check_parent_instance(document: ApiRequest) -> None:
    """Refuse a build on an instance of another account. Raises ApiError."""
    if document.get("parentInstance"):
        raise invalid_request(
            "parentInstance cannot be used: there are no Auto Scaling groups here, and every build starts an "
            "instance of its own. Leave parentInstance out."
        )


def check_members(request: ApiRequest, _settings: Settings) -> None:
    """Rules between the members of an infrastructure configuration. Raises ApiError."""
    check_parent_instance(request)
    if "subnetId" in request and "securityGroupIds" not in request:
        raise invalid_combination("subnetId", "You must specify securityGroupIds together with subnetId.")
    placement = request.get("placement", {})
    host, group = placement.get("hostId"), placement.get("hostResourceGroupArn")
    if host and group:
        raise invalid_combination("placement", "You can specify hostId or hostResourceGroupArn, but not both.")
    if (host or group) and placement.get("tenancy") != "host":
        raise invalid_combination("placement.tenancy", "hostId and hostResourceGroupArn need the tenancy 'host'.")
    for key in request.get("resourceTags", {}):
        if key.startswith("aws:") or key in _RESERVED_TAGS:
            raise invalid_value("resourceTags", f"The tag key '{key}' is reserved.")
    if str(request.get("snsTopicArn", "")).endswith(".fifo"):
        raise invalid_value("snsTopicArn", "FIFO topics are not supported.")


def _check_profile(call: Call, request: ApiRequest) -> None:
    """An instance profile must be among those of the settings, where they name any (spec/api.md 4.4)."""
    known = call.settings.instance_profiles
    if known and request["instanceProfileName"] not in known:
        raise invalid_value(
            "instanceProfileName",
            "The provided instance profile does not exist. Please specify a different instance profile and try "
            "again.",
        )


def _document(request: ApiRequest) -> ApiDocument:
    return {
        **select_members(request, _SETTABLE),
        "terminateInstanceOnFailure": request.get("terminateInstanceOnFailure", True),
        "terminateInstanceOnCompletion": request.get("terminateInstanceOnCompletion", True),
    }


def _summary(record: Record) -> ApiDocument:
    return {**select_members(record.document, _SUMMARY), "tags": dict(record.tags)}


KIND = ConfigurationKind(
    kind="infrastructure-configuration",
    arn_member="infrastructureConfigurationArn",
    result_member="infrastructureConfiguration",
    list_member="infrastructureConfigurationSummaryList",
    plural="infrastructure configurations",
    quota=lambda call: call.settings.quotas.infrastructure_configurations,
    check=_check_profile,
    document=_document,
    summary=_summary,
)

handlers = configurations.handlers(KIND)
