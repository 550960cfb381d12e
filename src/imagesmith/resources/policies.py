"""Resource policies: put and get, for images, components and both kinds of recipes (spec/api.md 4.11).

A put replaces the whole policy, and the text is returned as it was stored. A policy without statements ends the
sharing, and its promotion (`imagesmith share promote`); its text remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from imagesmith.policies.document import PolicyRefused
from imagesmith.policies.sharing import sharing_policy
from imagesmith.resources.call import Call, Handler
from imagesmith.resources.errors import invalid_value, not_found
from imagesmith.resources.resolution import find, refuse_wildcard
from imagesmith.store.policies import StoredPolicy, get_policy, put_policy
from imagesmith.store.records import Record
from imagesmith.values.api import ApiRequest, ApiResponse

_NONE = "{}"
"""The answer for a resource without a policy."""


@dataclass(frozen=True)
class PolicyHandlers:
    """The two operations of a type of resource."""

    put: Handler
    get: Handler


def handlers(kind: str, arn_member: str) -> PolicyHandlers:
    """The operations of an ARN type; `arn_member` names the resource in their requests."""
    return PolicyHandlers(*(partial(handle, kind, arn_member) for handle in (_put, _get)))


def _put(kind: str, member: str, call: Call, request: ApiRequest) -> ApiResponse:
    record = _own(kind, member, call, request)
    try:
        policy = sharing_policy(request["policy"], kind=kind, resource=record.arn)
    except PolicyRefused as error:
        raise invalid_value("policy", f"The policy cannot be used: {error}.") from error
    earlier = get_policy(call.tx, record.arn)
    promoted = earlier is not None and earlier.promoted and bool(policy.grants)
    put_policy(call.tx, StoredPolicy(record.arn, request["policy"], promoted))
    return {member: record.arn}


def _get(kind: str, member: str, call: Call, request: ApiRequest) -> ApiResponse:
    record = _own(kind, member, call, request)
    policy = get_policy(call.tx, record.arn)
    return {"policy": _NONE if policy is None else policy.text}


def _own(kind: str, member: str, call: Call, request: ApiRequest) -> Record:
    """The exact resource of the caller; the policies of another account's are not shown. Raises ApiError."""
    refuse_wildcard(request[member], path=member)
    record = find(call, request[member], path=member, kind=kind)
    if record.account != call.account:
        raise not_found(kind, request[member])
    return record
