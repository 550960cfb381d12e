"""Lifecycle policies: create, get, update, delete, list (spec/api.md 4.1, 4.2, 5.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import already_exists, invalid_combination, quota_exceeded
from imagesmith.resources.lifecycle_runs import KIND, arm_policy, cancel_executions
from imagesmith.resources.lists import list_stored, member
from imagesmith.resources.resolution import require
from imagesmith.resources.roles import check_role
from imagesmith.store import lifecycle, queries
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.arn import slug_of
from imagesmith.values.names import parse_instant
from imagesmith.values.states import PolicyStatus

_ARN: Final = "lifecyclePolicyArn"
_SETTABLE: Final = ("description", "executionRole", "resourceType", "policyDetails", "resourceSelection")
_DATES: Final = ("dateCreated", "dateUpdated", "dateLastRun")
_SUMMARY: Final = ("arn", "name", "description", "status", "executionRole", "resourceType", *_DATES)


def create(call: Call, request: ApiRequest) -> ApiResponse:
    check_role(call, request)
    arn = str(call.arn(KIND, slug_of(request["name"])))
    if queries.get(call.tx, arn) is not None:
        raise already_exists(KIND, arn)
    limit = call.settings.quotas.lifecycle_policies
    if queries.count(call.tx, call.own(KIND)) >= limit:
        raise quota_exceeded("lifecycle policies", limit)
    call.stop_if_dry_run()
    document = {
        "arn": arn, "name": request["name"], "dateCreated": call.stamp, "dateUpdated": call.stamp,
        **_content(request),
    }  # fmt: skip
    record = Record(
        arn=arn, account=call.account, region=call.region, kind=KIND, slug=slug_of(request["name"]),
        name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
        status=document["status"],
    )  # fmt: skip
    queries.insert(call.tx, record)
    arm_policy(call, record)
    return {_ARN: arn}


def _content(request: ApiRequest) -> ApiDocument:
    return {**select_members(request, _SETTABLE), "status": request.get("status", PolicyStatus.ENABLED)}


def get(call: Call, request: ApiRequest) -> ApiResponse:
    record = require(call, request[_ARN], KIND, path=_ARN)
    return {"lifecyclePolicy": _to_api(record, tuple(record.document))}


def update(call: Call, request: ApiRequest) -> ApiResponse:
    """Replace everything but name, resourceType, dates of creation and run, and tags. Disabling cancels a run."""
    check_role(call, request)
    record = require(call, request[_ARN], KIND, path=_ARN)
    if request["resourceType"] != record.document["resourceType"]:
        raise invalid_combination(
            "resourceType", f"The type of a policy cannot change; it is {record.document['resourceType']}."
        )
    kept = select_members(record.document, ("arn", "name", "dateCreated", "dateLastRun"))
    content = _content(request)
    changed = replace(record, document={**kept, "dateUpdated": call.stamp, **content}, status=content["status"])
    queries.replace(call.tx, changed)
    if changed.status == PolicyStatus.DISABLED:
        cancel_executions(call, record.arn)
    if changed.status != record.status:
        arm_policy(call, changed)
    return {_ARN: record.arn}


def delete(call: Call, request: ApiRequest) -> ApiResponse:
    """Remove a policy and its schedule; a running execution is cancelled, and its record stays."""
    record = require(call, request[_ARN], KIND, path=_ARN)
    cancel_executions(call, record.arn)
    lifecycle.set_next_run(call.tx, record.arn, None)
    queries.delete(call.tx, record.arn)
    return {_ARN: record.arn}


def list_all(call: Call, _request: ApiRequest) -> ApiResponse:
    return list_stored(
        call,
        call.own(KIND),
        key="lifecyclePolicySummaryList",
        filters={name: member(name) for name in ("name", "resourceType", "status")},
        show=lambda record: _to_api(record, _SUMMARY),
    )


def _to_api(record: Record, names: tuple[str, ...]) -> ApiDocument:
    """Members of a policy with its tags; dates are instants in the API."""
    members = select_members(record.document, names)
    dates: ApiDocument = {name: parse_instant(members[name]) for name in _DATES if name in members}
    return {**members, **dates, "tags": dict(record.tags)}
