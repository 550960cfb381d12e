"""Lifecycle executions: read, listed with their resources, cancelled (spec/api.md 5.5)."""

from __future__ import annotations

from collections.abc import Sequence

from imagesmith.resources.call import Call
from imagesmith.resources.errors import invalid_request, invalid_value, not_found
from imagesmith.resources.lifecycle_runs import KIND, cancel_execution
from imagesmith.resources.lists import list_keyed
from imagesmith.resources.resolution import parse_arn
from imagesmith.store import lifecycle, queries
from imagesmith.store.lifecycle import LifecycleExecution, LifecycleResource
from imagesmith.store.records import Cursor
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.names import parse_instant
from imagesmith.values.states import UNFINISHED_LIFECYCLE, LifecycleOutcome

_ID = "lifecycleExecutionId"
_ARN = "resourceArn"


def get(call: Call, request: ApiRequest) -> ApiResponse:
    return {"lifecycleExecution": _to_api(call, _execution(call, request[_ID]))}


def list_all(call: Call, request: ApiRequest) -> ApiResponse:
    """The executions of a policy, or the state updates of an image build; both may be gone already."""
    text = request[_ARN]
    arn = parse_arn(call, text, path=_ARN)
    if arn.kind != KIND and (arn.kind != "image" or arn.build is None):
        raise invalid_value(_ARN, f"{text} is neither a lifecycle policy nor a build of an image.")

    def fetch(after: Cursor | None, limit: int) -> Sequence[tuple[Cursor, ApiDocument]]:
        found = lifecycle.list_executions(call.tx, call.account, call.region, text, after=after, limit=limit)
        return [(execution.cursor, _to_api(call, execution)) for execution in found]

    answer = list_keyed(call, fetch, key="lifecycleExecutions")
    if not answer["lifecycleExecutions"] and not queries.exists(call.tx, text):
        raise not_found(arn.kind, text)
    return answer


def list_resources(call: Call, request: ApiRequest) -> ApiResponse:
    """The images that an execution selected, or the outputs of one of them."""
    execution, parent = _execution(call, request[_ID]), request.get("parentResourceId", "")

    def fetch(after: Cursor | None, limit: int) -> Sequence[tuple[Cursor, ApiDocument]]:
        found = lifecycle.list_resources(
            call.tx, execution.id, parent_id=parent, after=after.created if after else -1, limit=limit
        )
        return [(Cursor(item.position, item.resource_id), _resource(item)) for item in found]

    return {
        **list_keyed(call, fetch, key="resources"),
        _ID: execution.id,
        "lifecycleExecutionState": _state(execution),
    }


def cancel(call: Call, request: ApiRequest) -> ApiResponse:
    """Stop an execution that has not ended; a second cancel succeeds while it stops."""
    execution = _execution(call, request[_ID])
    if execution.status not in UNFINISHED_LIFECYCLE:
        raise invalid_request(f"The lifecycle execution {execution.id} has ended; it is {execution.status}.")
    cancel_execution(call, execution)
    return {_ID: execution.id}


def _execution(call: Call, id: str) -> LifecycleExecution:
    found = lifecycle.get_execution(call.tx, id)
    if found is None or (found.account, found.region) != (call.account, call.region):
        raise not_found("LifecycleExecution", id)
    return found


def _to_api(call: Call, execution: LifecycleExecution) -> ApiDocument:
    counts = lifecycle.count_outcomes(call.tx, execution.id)
    impacted = sum(count for status, count in counts.items() if status != LifecycleOutcome.SKIPPED)
    return {
        _ID: execution.id,
        "lifecyclePolicyArn": execution.document.get("policyArn") or None,
        "resourcesImpactedSummary": {"hasImpactedResources": impacted > 0},
        "state": _state(execution),
        "startTime": execution.started,
        "endTime": execution.ended,
    }


def _state(execution: LifecycleExecution) -> ApiDocument:
    return {"status": execution.status, "reason": execution.document.get("reason") or None}


def _resource(item: LifecycleResource) -> ApiDocument:
    document = item.document
    state = {"status": item.status, "reason": document.get("reason") or None}
    return {
        "accountId": document["account"],
        "resourceId": item.resource_id,
        "state": state,
        "action": {"name": document["action"]},
        "region": document["region"],
        "snapshots": [{**snapshot, "state": state} for snapshot in document.get("snapshots", ())] or None,
        "imageUris": document.get("imageUris") or None,
        "startTime": parse_instant(document["startTime"]),
        "endTime": parse_instant(document["endTime"]) if "endTime" in document else None,
    }
