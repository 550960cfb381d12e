"""Images: single builds, their records, cancel and delete (spec/api.md 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from imagesmith.builds.image_states import enter_state
from imagesmith.builds.retry import current_key
from imagesmith.resources import versioned
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import in_dependency, invalid_value, not_found
from imagesmith.resources.lifecycle_runs import cancel_executions
from imagesmith.resources.lists import list_values, member, version_text
from imagesmith.resources.resolution import find, refuse_wildcard, resolve
from imagesmith.resources.roles import check_role
from imagesmith.resources.run_plans import RunOrder
from imagesmith.resources.runs import start_run
from imagesmith.resources.shared import is_shared
from imagesmith.store import inventories, queries, stored_builds
from imagesmith.store.image_removal import forget_image
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.names import parse_instant
from imagesmith.values.states import FINAL_IMAGE, ImageStatus

KIND = "image"
_IN_LAYOUT = re.compile(r"^oci:/.*/oci:(?=\d{12}/)")
"""The prefix of references to images that are not in a registry."""
_ARN = "imageBuildVersionArn"

_FILTERS = {
    "name": member("name"),
    "osVersion": member("osVersion"),
    "platform": member("platform"),
    "type": member("type"),
    "version": version_text,
}
_SUMMARY = (
    "arn", "name", "type", "version", "platform", "osVersion", "state", "dateCreated", "outputResources",
    "buildType", "imageSource", "deprecationTime", "lifecycleExecutionId", "loggingConfiguration",
)  # fmt: skip


def create(call: Call, request: ApiRequest) -> ApiResponse:
    """Build once from a recipe, without a pipeline."""
    check_role(call, request)
    group = request.get("loggingConfiguration", {}).get("logGroupName")
    order = RunOrder(
        request, pipeline=None, tags=request.get("tags", {}), build_type="USER_INITIATED", log_group=group or ""
    )
    image = start_run(call, order)
    return {_ARN: image.arn, "latestVersionReferences": image.parsed.latest_references()}


def get(call: Call, request: ApiRequest) -> ApiResponse:
    record = resolve(call, request[_ARN], path=_ARN, kind=KIND)
    return {
        "image": _to_api(call, record.to_api()),
        "latestVersionReferences": record.parsed.latest_references(),
    }


def cancel(call: Call, request: ApiRequest) -> ApiResponse:
    """Ask a build to stop. A waiting build is CANCELLED at once; a running one follows soon."""
    record = find(call, request[_ARN], path=_ARN, kind=KIND)
    if record.status in FINAL_IMAGE:
        raise invalid_value(_ARN, "The image is in a terminal state and cannot be cancelled.")
    stored_builds.request_cancel(call.tx, record.arn)
    if record.status == ImageStatus.PENDING:
        enter_state(call.tx, record, {"status": ImageStatus.CANCELLED}, moment=call.now)
    if call.builds is not None:
        build = stored_builds.get_build(call.tx, record.arn)
        key = current_key(build) if build else record.arn
        call.afterwards(EffectKind.CANCEL, key, partial(call.builds.cancel, key))
    return {_ARN: record.arn}


def delete(call: Call, request: ApiRequest) -> ApiResponse:
    """Remove the record of a finished build, never its artifacts (spec/api.md 4.5, 5.3)."""
    refuse_wildcard(request[_ARN], path=_ARN)
    record = find(call, request[_ARN], path=_ARN, kind=KIND)
    if record.account != call.account:
        raise not_found(KIND, request[_ARN])
    # a lifecycle execution that deletes the image needs its record until it has ended
    in_work = record.status not in FINAL_IMAGE or record.status == ImageStatus.DELETED
    if in_work or is_shared(call, record.arn) or queries.is_needed(call.tx, record.arn):
        raise in_dependency(record.arn)
    cancel_executions(call, record.arn)
    forget_image(call.tx, record.arn)
    return {_ARN: record.arn}


def list_versions(call: Call, request: ApiRequest) -> ApiResponse:
    """One entry per semantic version, or per name."""
    names = ("name", "type", "platform", "osVersion", "dateCreated", "buildType", "imageSource")

    def more(record: Record) -> ApiDocument:
        owner = record.document.get("owner", record.account)
        return {"version": record.parsed.version, "owner": owner}

    return versioned.list_versions(KIND, call, request, filters=_FILTERS, names=names, more=more)


def list_builds(call: Call, request: ApiRequest) -> ApiResponse:
    """Build versions of one exact version, or of all own images."""
    return versioned.list_builds(KIND, call, request, filters=_FILTERS, show=partial(summary, call))


def summary(call: Call, record: Record) -> ApiDocument:
    return {
        **_to_api(call, select_members(record.document, _SUMMARY)),
        "owner": record.document.get("owner", record.account),
        "tags": dict(record.tags),
    }


def _to_api(call: Call, members: Mapping[str, Any]) -> ApiDocument:
    """An image as shown: the time of deprecation is an instant in the API."""
    shown = _with_current_layout(call, members)
    deprecated = shown.get("deprecationTime")
    return {**shown, "deprecationTime": parse_instant(deprecated)} if deprecated else shown


def _with_current_layout(call: Call, shown: Mapping[str, Any]) -> ApiDocument:
    """An image as shown, with the current path of the layout: the data directory may have moved."""
    outputs = shown.get("outputResources", {})
    if not outputs.get("containers"):
        return dict(shown)
    layout = f"oci:{call.settings.data_dir / 'oci'}:"
    containers = [
        {**item, "imageUris": [_IN_LAYOUT.sub(lambda _: layout, uri) for uri in item.get("imageUris", ())]}
        for item in outputs["containers"]
    ]
    return {**shown, "outputResources": {**outputs, "containers": containers}}


def list_packages(call: Call, request: ApiRequest) -> ApiResponse:
    """The package inventory captured at build time; empty when none was collected."""
    record = find(call, request[_ARN], path=_ARN, kind=KIND)
    packages = inventories.get_inventory(call.tx, record.arn) or []
    shown = [{"packageName": item["name"], "packageVersion": item["version"]} for item in packages]
    return list_values(call, shown, key="imagePackageList")
