"""Rules between the members of a lifecycle policy, and of an update of one image (spec/api.md 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.resources.call import Call
from imagesmith.resources.errors import invalid_combination, invalid_request
from imagesmith.resources.resolution import reading_pattern
from imagesmith.settings import Settings
from imagesmith.values.api import ApiRequest
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus, LifecycleAction

_CONTAINER = "CONTAINER_IMAGE"


def check_policy(request: ApiRequest, _settings: Settings) -> None:
    """Raises ApiError."""
    seen: set[str] = set()
    for index, detail in enumerate(request["policyDetails"]):
        path, action = f"policyDetails[{index}]", detail["action"]["type"]
        if action in seen:
            raise invalid_combination(f"{path}.action.type", f"More than one rule has the action {action}.")
        seen.add(action)
        _check_rule(path, detail, container=request["resourceType"] == _CONTAINER)
    selection = request["resourceSelection"]
    if ("recipes" in selection) == ("tagMap" in selection):
        raise invalid_combination("resourceSelection", "You must specify exactly one of recipes and tagMap.")
    for recipe in selection.get("recipes", ()):
        reading_pattern(recipe["semanticVersion"])


def _check_rule(path: str, detail: Mapping[str, Any], *, container: bool) -> None:
    action, limit = detail["action"]["type"], detail["filter"]
    if container and action != LifecycleAction.DELETE:
        raise invalid_combination(f"{path}.action.type", f"Container images have no action {action}, only DELETE.")
    if limit["type"] == "COUNT" and action != LifecycleAction.DELETE:
        raise invalid_combination(f"{path}.filter.type", f"COUNT is not valid for the action {action}, only AGE.")
    if limit["type"] == "AGE" and "unit" not in limit:
        raise invalid_combination(f"{path}.filter.unit", "A filter of the type AGE needs a unit.")
    include = detail["action"].get("includeResources", {})
    problem = _include_problem(include, container=container, delete=action == LifecycleAction.DELETE)
    if problem:
        raise invalid_combination(f"{path}.action.includeResources", problem)


def _include_problem(include: Mapping[str, Any], *, container: bool, delete: bool) -> str:
    """What is wrong with includeResources; empty if nothing is."""
    amis, snapshots, containers = (bool(include.get(name)) for name in ("amis", "snapshots", "containers"))
    if containers and not container:
        return "containers is only valid for container images."
    if container and (amis or snapshots):
        return "amis and snapshots are only valid for AMI images."
    if not delete and (snapshots or containers):
        return "snapshots and containers are only valid for deletion."
    if snapshots and not amis:
        return "snapshots needs amis."
    return ""


def check_update(request: ApiRequest, _settings: Settings) -> None:
    """Rules of StartResourceStateUpdate that need no image. Raises ApiError."""
    status, included = request["state"].get("status", ""), "includeResources" in request
    if not status:
        raise invalid_request("The state needs a status.")
    if ("executionRole" in request) != included:
        raise invalid_request("executionRole and includeResources need each other.")
    if status == ImageStatus.DELETED and not included:
        raise invalid_request("The status DELETED needs includeResources; DeleteImage removes the record alone.")
    if "updateAt" in request and status != ImageStatus.DEPRECATED:
        raise invalid_request("updateAt is only valid with the status DEPRECATED.")


def check_moment(call: Call, request: ApiRequest) -> None:
    """updateAt is in the future; no rule of the request alone, for a replay may come later. Raises ApiError."""
    moment = request.get("updateAt")
    if moment is not None and moment <= call.now:
        raise invalid_request(f"updateAt must be in the future; it is {iso_instant(moment)}.")


def check_update_of(request: ApiRequest, image_type: str) -> None:
    """Rules of StartResourceStateUpdate for the type of its image. Raises ApiError."""
    container, delete = image_type == "DOCKER", request["state"]["status"] == ImageStatus.DELETED
    if container and not delete:
        raise invalid_request("A container image can only become DELETED.")
    problem = _include_problem(request.get("includeResources", {}), container=container, delete=delete)
    if problem:
        raise invalid_request(f"includeResources is not valid: {problem}")
