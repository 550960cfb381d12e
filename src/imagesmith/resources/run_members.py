"""The members of a run that pipelines and single images share: their rules, defaults and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.artifacts.disk_formats import GIB, refused_exports
from imagesmith.distribution.role_access import OWN_LOG_GROUPS
from imagesmith.recipes.devices import DeviceRefused, read_devices
from imagesmith.recipes.kinds import kind_of_recipe
from imagesmith.resources.call import Call
from imagesmith.resources.container_places import check_repository, check_tags
from imagesmith.resources.errors import (
    invalid_combination,
    invalid_request,
)
from imagesmith.resources.infrastructure import check_parent_instance
from imagesmith.resources.resolution import require_stored, resolve
from imagesmith.resources.workflow_members import check_entries, needed_arns, resolve_entries
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest
from imagesmith.values.arn import Arn

RECIPE_MEMBERS = {"imageRecipeArn": "image-recipe", "containerRecipeArn": "container-recipe"}
TESTS_TIMEOUT_MINUTES = 720


def recipe_member(request: ApiRequest) -> str:
    """The recipe member of a request: exactly one of two is required (spec/api.md 4.3)."""
    given = [name for name in RECIPE_MEMBERS if name in request]
    if len(given) != 1:
        raise invalid_combination(
            "imageRecipeArn", "You must specify exactly one of imageRecipeArn and containerRecipeArn."
        )
    return given[0]


def check_members(call: Call, request: ApiRequest) -> None:
    """Check the cross-member rules that pipelines and images share (spec/api.md 4.3)."""
    member = recipe_member(request)
    check_entries(call, request)
    check_log_groups(request)
    _check_scanning(request, member)


def check_log_groups(request: ApiRequest, *, roles: bool = True) -> None:
    """Refuse a foreign log group without an execution role, or, if the operation has no `roles`, at all."""
    for name, group in request.get("loggingConfiguration", {}).items():
        if group.startswith(OWN_LOG_GROUPS) or (roles and "executionRole" in request):
            continue
        rule = "needs executionRole" if roles else "is not allowed here"
        raise invalid_combination(f"loggingConfiguration.{name}", f"A log group outside {OWN_LOG_GROUPS} {rule}.")


def _check_scanning(request: ApiRequest, member: str) -> None:
    scanning = request.get("imageScanningConfiguration", {})
    path = "imageScanningConfiguration"
    check_repository(f"{path}.ecrConfiguration", scanning.get("ecrConfiguration", {}))
    check_tags(f"{path}.ecrConfiguration", scanning.get("ecrConfiguration", {}))
    types = scanning.get("imageScanningTypes", ())
    on_demand = "ON_DEMAND_AMI_CVE" in types
    if on_demand and member == "containerRecipeArn":
        raise invalid_combination(f"{path}.imageScanningTypes", "ON_DEMAND_AMI_CVE is not valid for containers.")
    if "scanResultCondition" in scanning and not on_demand:
        raise invalid_combination(
            f"{path}.scanResultCondition",
            "scanResultCondition requires ON_DEMAND_AMI_CVE in imageScanningTypes.",
        )
    tests = request.get("imageTestsConfiguration", {})
    if scanning.get("imageScanningEnabled") and tests.get("imageTestsEnabled") is False:
        raise invalid_combination(path, "Image scanning needs imageTestsEnabled.")


def check_references(call: Call, request: ApiRequest) -> tuple[Record, list[str]]:
    """Resolve the references of a pipeline or an image; returns the recipe and the ARNs that must keep existing."""
    member = recipe_member(request)
    recipe = resolve(call, request[member], path=member, kind=RECIPE_MEMBERS[member])
    # another account can delete what it shares
    protects = recipe.account == call.account and not Arn.parse(request[member]).has_wildcard
    needs = [recipe.arn] if protects else []
    for name, kind in (
        ("infrastructureConfigurationArn", "infrastructure-configuration"),
        ("distributionConfigurationArn", "distribution-configuration"),
    ):
        if name in request:
            needs.append(require_stored(call, request[name], kind, path=name))
    needs += needed_arns(call, resolve_entries(call, request, recipe))
    check_parent_instance(stored_document(call, request["infrastructureConfigurationArn"]) or {})
    _check_disk(recipe, stored_document(call, request.get("distributionConfigurationArn")))
    return recipe, needs


def _check_disk(recipe: Record, distribution: Mapping[str, Any] | None) -> None:
    """Refuse disks that cannot be made, or not in the form that the distribution requires. Raises ApiError."""
    if not kind_of_recipe(recipe.kind).is_disk:
        return
    try:
        devices = read_devices(recipe.document.get("blockDeviceMappings", ()))
    except DeviceRefused as error:
        raise invalid_request(f"The recipe {recipe.arn} cannot be built: {error}") from error
    refusal = refused_exports(devices.root_gb * GIB, (distribution or {}).get("distributions", ()))
    if refusal:
        raise invalid_combination(
            "distributionConfigurationArn", f"The image of {recipe.arn} could not be exported: {refusal}."
        )


def tests_configuration(request: ApiRequest) -> ApiDocument:
    """Each inner member has its own default (spec/api.md 4.1)."""
    return {
        "imageTestsEnabled": True,
        "timeoutMinutes": TESTS_TIMEOUT_MINUTES,
        **request.get("imageTestsConfiguration", {}),
    }


def stored_document(call: Call, arn: str | None) -> ApiDocument | None:
    """The document of a reference, with its tags; None without a reference, or when it does not exist."""
    record = queries.get(call.tx, arn) if arn else None
    return None if record is None else record.to_api()
