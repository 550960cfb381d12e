"""Images: single builds, their records, cancel and delete (spec/api.md 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from imagesmith.resources import runs
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import picked
from imagesmith.resources.errors import in_dependency, invalid_combination, invalid_value, not_found
from imagesmith.resources.lists import empty_page, list_given, list_stored, list_values, member, version_text
from imagesmith.resources.references import exact_version, find, parse_arn, refuse_wildcard, resolve
from imagesmith.resources.roles import check_role
from imagesmith.store import queries
from imagesmith.store.executions import forget_executions
from imagesmith.store.findings import forget_findings
from imagesmith.store.instances import forget_instances
from imagesmith.store.records import Record
from imagesmith.store.runs import forget_runs
from imagesmith.values.final_states import FINAL
from imagesmith.workflows.retry import current_key

Request = Mapping[str, Any]

KIND = "image"
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


def create(call: Call, request: Request) -> dict[str, Any]:
    """Build once from a recipe, without a pipeline."""
    runs.check_members(call, request)
    check_role(call, request)
    group = request.get("loggingConfiguration", {}).get("logGroupName")
    image = runs.start_run(
        call, request, pipeline=None, tags=request.get("tags", {}), build_type="USER_INITIATED", log_group=group
    )
    return {_ARN: image.arn, "latestVersionReferences": image.parsed.latest_references()}


def get(call: Call, request: Request) -> dict[str, Any]:
    record = resolve(call, request[_ARN], path=_ARN, kind=KIND)
    return {"image": record.shown, "latestVersionReferences": record.parsed.latest_references()}


def cancel(call: Call, request: Request) -> dict[str, Any]:
    """Ask a build to stop. One that still waits is CANCELLED at once; a running one follows soon."""
    record = find(call, request[_ARN], path=_ARN, kind=KIND)
    if record.status in FINAL:
        raise invalid_value(_ARN, "The image is in a terminal state and cannot be cancelled.")
    queries.request_cancel(call.tx, record.arn)
    if record.status == "PENDING":
        document = {**record.document, "state": {"status": "CANCELLED"}}
        queries.replace(call.tx, replace(record, document=document, status="CANCELLED"))
        follow_pipeline(call, record, "CANCELLED")
    if call.builds is not None:
        build = queries.get_build(call.tx, record.arn)
        key = current_key(build) if build else record.arn
        call.effects.append(partial(call.builds.cancel, key))
    return {_ARN: record.arn}


def follow_pipeline(call: Call, image: Record, status: str) -> None:
    """lastRunStatus follows the newest image of the pipeline (spec/pipelines.md 1)."""
    pipeline = queries.get(call.tx, image.source) if image.source else None
    newest = queries.newest_of_source(call.tx, image.source) if pipeline else None
    if pipeline is not None and newest is not None and newest.arn == image.arn:
        queries.replace(call.tx, replace(pipeline, document={**pipeline.document, "lastRunStatus": status}))


def delete(call: Call, request: Request) -> dict[str, Any]:
    """Remove the record of a finished build, never its artifacts (spec/api.md 4.5, 5.3)."""
    refuse_wildcard(request[_ARN], path=_ARN)
    record = find(call, request[_ARN], path=_ARN, kind=KIND)
    if record.account != call.account:
        raise not_found(KIND, request[_ARN])
    if record.status not in FINAL or queries.is_needed(call.tx, record.arn):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    forget_findings(call.tx, record.arn)
    forget_executions(call.tx, record.arn)
    forget_instances(call.tx, record.arn)
    forget_runs(call.tx, record.arn)
    return {_ARN: record.arn}


def list_versions(call: Call, request: Request) -> dict[str, Any]:
    """One entry per semantic version, or per name."""
    by_name = bool(request.get("byName"))
    if by_name and any(entry.get("name") == "version" for entry in request.get("filters", ())):
        raise invalid_combination("filters", "byName cannot be combined with a filter on version.")
    owner = request.get("owner", "Self")

    def show(record: Record) -> dict[str, Any]:
        arn = record.parsed.with_version("x.x.x") if by_name else record.parsed.without_build
        names = ("name", "type", "platform", "osVersion", "dateCreated", "buildType", "imageSource")
        shown = picked(record.document, names)
        return {
            "arn": str(arn),
            **shown,
            "version": record.parsed.version,
            "owner": record.document.get("owner", record.account),
        }

    key = "imageVersionList"
    if owner == "Amazon":
        records = call.managed.records(KIND, call.caller.partition, call.region)
        return list_given(call, records, key=key, filters=_FILTERS, show=show)
    if owner != "Self":
        return empty_page(key)
    selection = call.own(KIND, newest_build_only=not by_name, newest_version_only=by_name)
    return list_stored(call, selection, key=key, filters=_FILTERS, show=show)


def list_builds(call: Call, request: Request) -> dict[str, Any]:
    """Build versions of one exact version, or of all own images."""
    text = request.get("imageVersionArn")
    selection = call.own(KIND)
    if text is not None:
        arn = parse_arn(call, text, path="imageVersionArn", kind=KIND)
        version = exact_version(arn.version or "")
        if arn.owner != call.account:
            found = [record for record in call.managed.versions(arn) if record.version == version]
            return list_given(call, found, key="imageSummaryList", filters=_FILTERS, show=summary)
        selection = call.own(KIND, slug=arn.slug, version=version)
    return list_stored(call, selection, key="imageSummaryList", filters=_FILTERS, show=summary)


def summary(record: Record) -> dict[str, Any]:
    return {
        **picked(record.document, _SUMMARY),
        "owner": record.document.get("owner", record.account),
        "tags": dict(record.tags),
    }


def list_packages(call: Call, request: Request) -> dict[str, Any]:
    """The package inventory captured at build time; empty when none was collected."""
    record = find(call, request[_ARN], path=_ARN, kind=KIND)
    packages = queries.get_inventory(call.tx, record.arn) or []
    shown = [{"packageName": item["name"], "packageVersion": item["version"]} for item in packages]
    return list_values(call, shown, key="imagePackageList")
