"""StartResourceStateUpdate: one change of the state of one image build (spec/api.md 5.5)."""

from __future__ import annotations

from typing import Final

from imagesmith.lifecycle.decide import AFFECTED
from imagesmith.lifecycle.order import Order, StateUpdate
from imagesmith.lifecycle.state_change import change_state, target_status
from imagesmith.resources.call import Call
from imagesmith.resources.errors import in_use, invalid_request, not_found, quota_exceeded
from imagesmith.resources.lifecycle_checks import check_moment, check_update_of
from imagesmith.resources.lifecycle_runs import start_execution
from imagesmith.resources.resolution import find
from imagesmith.resources.roles import check_role, planned_role
from imagesmith.store import lifecycle
from imagesmith.store.records import Record
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.values.names import iso_instant
from imagesmith.values.states import UNFINISHED_IMAGE, ImageStatus, LifecycleAction

_ARN: Final = "resourceArn"
_ACTIONS: Final = {
    ImageStatus.AVAILABLE: LifecycleAction.AVAILABLE, ImageStatus.DEPRECATED: LifecycleAction.DEPRECATE,
    ImageStatus.DISABLED: LifecycleAction.DISABLE, ImageStatus.DELETED: LifecycleAction.DELETE,
}  # fmt: skip


def start(call: Call, request: ApiRequest) -> ApiResponse:
    """Change the state at once, or start an execution where outputs are included or the time is later."""
    check_moment(call, request)
    check_role(call, request)
    image = find(call, request[_ARN], path=_ARN, kind="image")
    if image.account != call.account:
        raise not_found("image", request[_ARN])
    check_update_of(request, image.document["type"])
    update = _update(request, image)
    _check_state(call, image, update.action)
    if "includeResources" not in request and "updateAt" not in request:
        if image.status != target_status(update.action):
            change_state(call.tx, image, update.rule, now=call.now)
        return {_ARN: image.arn}
    limit = call.settings.quotas.resource_state_updates
    running = lifecycle.unfinished(call.tx, account=call.account, region=call.region)
    if sum(not execution.document.get("policyArn") for execution in running) >= limit:
        raise quota_exceeded("concurrent resource state updates", limit)
    role = planned_role(call, request.get("executionRole", ""))
    execution = start_execution(call, image.arn, Order(update=update, role=role))
    return {_ARN: image.arn, "lifecycleExecutionId": execution.id}


def _update(request: ApiRequest, image: Record) -> StateUpdate:
    moment = request.get("updateAt")
    return StateUpdate(
        image_arn=image.arn,
        action=_ACTIONS[request["state"]["status"]],
        include=request.get("includeResources", {}),
        exclusions=request.get("exclusionRules", {}).get("amis", {}),
        update_at=iso_instant(moment) if moment is not None else "",
    )


def _check_state(call: Call, image: Record, action: LifecycleAction) -> None:
    """Whether the image may change in this way now. Raises ApiError."""
    if image.status in UNFINISHED_IMAGE:
        raise in_use(f"The image {image.arn} is {image.status}; its state can change when it has ended.")
    if lifecycle.unfinished(call.tx, subject=image.arn):
        raise in_use(f"An update of the state of {image.arn} has not ended.")
    if image.status not in (*AFFECTED[action], target_status(action)):
        raise invalid_request(f"The image {image.arn} is {image.status}; it cannot become {target_status(action)}.")
