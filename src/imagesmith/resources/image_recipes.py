"""Image recipes: a parent disk and components (spec/api.md 6.1)."""

from __future__ import annotations

import base64
import binascii
import logging

from imagesmith.recipes.devices import DeviceRefused, read_devices
from imagesmith.resources import recipes
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import invalid_combination, invalid_value
from imagesmith.resources.lists import member
from imagesmith.resources.parent_warnings import parent_warning
from imagesmith.resources.recipes import RecipeKind
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse

_log = logging.getLogger(__name__)

_COPIED = (
    "description", "parentImage", "blockDeviceMappings", "workingDirectory", "additionalInstanceConfiguration",
    "amiTags", "amiWatermarks",
)  # fmt: skip


def _summary(record: Record) -> ApiDocument:
    return recipes.summary(record, recipes.SUMMARY)


KIND = RecipeKind(
    kind="image-recipe",
    arn_member="imageRecipeArn",
    result_member="imageRecipe",
    list_member="imageRecipeSummaryList",
    plural="image recipes",
    quota=lambda call: call.settings.quotas.image_recipes,
    filters={name: member(name) for name in ("name", "parentImage", "platform")},
    summary=_summary,
)


def check_members(request: ApiRequest, _settings: Settings) -> None:
    """Rules of the members of an image recipe. Raises ApiError."""
    _check_user_data(request.get("additionalInstanceConfiguration", {}).get("userDataOverride"))
    try:
        read_devices(request.get("blockDeviceMappings", ()))
    except DeviceRefused as error:
        raise invalid_value(error.path, error.detail) from error
    watermarks = request.get("amiWatermarks", ())
    if len(set(watermarks)) != len(watermarks):
        raise invalid_value("amiWatermarks", "A watermark is listed more than once.")


def create(call: Call, request: ApiRequest) -> ApiResponse:
    parent = recipes.check_parent(call, request["parentImage"], container=False)
    warning = parent_warning(call, request["parentImage"])
    if warning and not request.get("dryRun"):
        _log.warning("image recipe %s/%s: %s", request["name"], request["semanticVersion"], warning)
    platform = parent.platform or "Linux"
    extra = request.get("additionalInstanceConfiguration", {})
    if "systemsManagerAgent" in extra and platform == "Windows":
        raise invalid_combination(
            "additionalInstanceConfiguration.systemsManagerAgent", "It is not valid for Windows base images."
        )
    entries, needs = recipes.check_components(
        call, request, recipes.ParentProperties(platform, parent.os_version), container=False
    )
    content = {**select_members(request, _COPIED), "platform": platform, "components": entries}
    return recipes.create(KIND, call, request, content, [*needs, *parent.needs])


def _check_user_data(text: str | None) -> None:
    if text is None:
        return
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_value(
            "additionalInstanceConfiguration.userDataOverride", f"It is not base64 text: {error}."
        ) from error


handlers = recipes.handlers(KIND)
