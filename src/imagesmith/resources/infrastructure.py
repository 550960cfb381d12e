"""Infrastructure configurations: where and how builds run (spec/api.md 6.4)."""

from __future__ import annotations

from functools import partial
from typing import Any

from imagesmith.resources import configurations
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import ConfigurationKind, Members, picked
from imagesmith.resources.errors import invalid_combination, invalid_value
from imagesmith.store.records import Record

_SETTABLE = (
    "description", "instanceTypes", "instanceProfileName", "securityGroupIds", "subnetId", "logging", "keyPair",
    "snsTopicArn", "resourceTags", "instanceMetadataOptions", "placement", "parentInstance",
)  # fmt: skip
_SUMMARY = (
    "arn", "name", "description", "dateCreated", "dateUpdated", "resourceTags", "instanceTypes",
    "instanceProfileName", "placement", "parentInstance",
)  # fmt: skip
_RESERVED_TAGS = frozenset({"CreatedBy", "Ec2ImageBuilderArn", "Name", "Tags"})


def _check(_call: Call, request: Members) -> None:
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


def _document(request: Members) -> dict[str, Any]:
    return {
        **picked(request, _SETTABLE),
        "terminateInstanceOnFailure": request.get("terminateInstanceOnFailure", True),
        "terminateInstanceOnCompletion": request.get("terminateInstanceOnCompletion", True),
    }


def _summary(record: Record) -> dict[str, Any]:
    return {**picked(record.document, _SUMMARY), "tags": dict(record.tags)}


KIND = ConfigurationKind(
    kind="infrastructure-configuration",
    arn_member="infrastructureConfigurationArn",
    result_member="infrastructureConfiguration",
    list_member="infrastructureConfigurationSummaryList",
    plural="infrastructure configurations",
    quota=lambda call: call.settings.quotas.infrastructure_configurations,
    check=_check,
    document=_document,
    summary=_summary,
)

create = partial(configurations.create, KIND)
get = partial(configurations.get, KIND)
update = partial(configurations.update, KIND)
delete = partial(configurations.delete, KIND)
list_all = partial(configurations.list_all, KIND)
