"""Distribution configurations: where finished images go, one entry per region (spec/api.md 6.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imagesmith.resources import configurations
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import ConfigurationKind, select_members
from imagesmith.resources.errors import invalid_combination, invalid_value, quota_exceeded
from imagesmith.resources.repository_checks import check_repository, check_tags
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest
from imagesmith.values.names import REGION

_UNUSED_TIMEOUT_MINUTES = 720
"""A required member of the answer without a meaning (spec/api.md 4.1)."""

_REGION = re.compile(REGION)
_BUILD_DATE = re.compile(r"\{\{\s*imagebuilder:buildDate(:[^{}]*)?\s*\}\}")


def check_members(request: ApiRequest, _settings: Settings) -> None:
    """Rules between the members of a distribution configuration. Raises ApiError."""
    seen: set[str] = set()
    for index, entry in enumerate(request["distributions"]):
        path = f"distributions[{index}]"
        if not _REGION.fullmatch(entry["region"]):
            raise invalid_value(
                f"{path}.region", f"'{entry['region'][:63]}' is not a Region; expected a name like eu-west-1."
            )
        if entry["region"] in seen:
            raise invalid_value(f"{path}.region", f"The Region '{entry['region']}' is listed more than once.")
        seen.add(entry["region"])
        if set(entry) == {"region"}:
            raise invalid_value(
                path, "One or more outputs should be provided for each region in a distribution configuration."
            )
        _check_entry(entry, path)


def _check_quotas(call: Call, request: ApiRequest) -> None:
    quotas, accounts = call.settings.quotas, set[str]()
    for entry in request["distributions"]:
        accounts |= set(entry.get("amiDistributionConfiguration", {}).get("targetAccountIds", ()))
        if len(entry.get("launchTemplateConfigurations", ())) > quotas.launch_templates_per_region:
            raise quota_exceeded("launch templates per Region", quotas.launch_templates_per_region)
        if len(entry.get("ssmParameterConfigurations", ())) > quotas.ssm_parameters_per_region:
            raise quota_exceeded("SSM parameters per Region", quotas.ssm_parameters_per_region)
    if len(accounts) > quotas.target_accounts:
        raise quota_exceeded("target accounts per distribution configuration", quotas.target_accounts)


def _check_entry(entry: Mapping[str, Any], path: str) -> None:
    container = entry.get("containerDistributionConfiguration", {})
    where = f"{path}.containerDistributionConfiguration"
    check_repository(f"{where}.targetRepository", container.get("targetRepository", {}))
    check_tags(where, container)
    ami = entry.get("amiDistributionConfiguration", {})
    name = ami.get("name")
    if name is not None and not _BUILD_DATE.search(name):
        raise invalid_value(
            f"{path}.amiDistributionConfiguration.name",
            "The name must contain the dynamic value {{ imagebuilder:buildDate }}.",
        )
    groups = ami.get("launchPermission", {}).get("userGroups", ())
    if any(group != "all" for group in groups):
        raise invalid_value(
            f"{path}.amiDistributionConfiguration.launchPermission.userGroups", "Only 'all' is valid."
        )
    for number, launch in enumerate(entry.get("fastLaunchConfigurations", ())):
        template = launch.get("launchTemplate", {})
        if "launchTemplateId" in template and "launchTemplateName" in template:
            raise invalid_combination(
                f"{path}.fastLaunchConfigurations[{number}].launchTemplate",
                "You can specify launchTemplateId or launchTemplateName, but not both.",
            )


def _document(request: ApiRequest) -> ApiDocument:
    return {**select_members(request, ("description", "distributions")), "timeoutMinutes": _UNUSED_TIMEOUT_MINUTES}


def _summary(record: Record) -> ApiDocument:
    shown = select_members(record.document, ("arn", "name", "description", "dateCreated", "dateUpdated"))
    regions = [entry["region"] for entry in record.document["distributions"]]
    return {**shown, "regions": regions, "tags": dict(record.tags)}


KIND = ConfigurationKind(
    kind="distribution-configuration",
    arn_member="distributionConfigurationArn",
    result_member="distributionConfiguration",
    list_member="distributionConfigurationSummaryList",
    plural="distribution configurations",
    quota=lambda call: call.settings.quotas.distribution_configurations,
    check=_check_quotas,
    document=_document,
    summary=_summary,
)

handlers = configurations.handlers(KIND)
