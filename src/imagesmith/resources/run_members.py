"""The members of a run that pipelines and single images share: their rules, defaults and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.artifacts.disk_formats import GIB, refused_exports
from imagesmith.distribution.role_access import OWN_LOG_GROUPS
from imagesmith.recipes.devices import DeviceRefused, read_devices
from imagesmith.recipes.kinds import kind_of_recipe
from imagesmith.resources.call import Call
from imagesmith.resources.errors import (
    invalid_combination,
    invalid_request,
)
from imagesmith.resources.infrastructure import check_parent_instance
from imagesmith.resources.repository_checks import check_repository, check_tags
from imagesmith.resources.resolution import require_stored, resolve
from imagesmith.resources.workflow_members import needed_arns, resolve_entries
from imagesmith.settings import Settings
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


def one_recipe(request: ApiRequest, _settings: Settings) -> None:
    """Exactly one recipe, of either kind. Raises ApiError."""
    recipe_member(request)


def log_groups_with_role(request: ApiRequest, _settings: Settings) -> None:
    """A foreign log group needs an execution role. Raises ApiError."""
    if "executionRole" not in request:
        _refuse_foreign_groups(request, "needs executionRole")


def own_log_groups(request: ApiRequest, _settings: Settings) -> None:
    """An operation without an execution role takes the service's own log groups only. Raises ApiError."""
    _refuse_foreign_groups(request, "is not allowed here")


def _refuse_foreign_groups(request: ApiRequest, rule: str) -> None:
    for name, group in request.get("loggingConfiguration", {}).items():
        if not group.startswith(OWN_LOG_GROUPS):
            raise invalid_combination(
                f"loggingConfiguration.{name}", f"A log group outside {OWN_LOG_GROUPS} {rule}."
            )


def check_scanning(request: ApiRequest, _settings: Settings) -> None:
    """Which members of a scan go together, and with which recipe and tests. Raises ApiError."""
    member = recipe_member(request)
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
