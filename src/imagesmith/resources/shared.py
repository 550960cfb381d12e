"""Resources of other accounts: a caller reads those whose policy grants it (spec/api.md 4.11)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from imagesmith.policies.conditions import RESOURCE_TAG
from imagesmith.policies.document import AccessRequest, PolicyRefused, grants_access, parse_policy
from imagesmith.policies.sharing import SHAREABLE, list_action, read_action
from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError, access_denied
from imagesmith.store import queries
from imagesmith.store.policies import get_policies, get_policy, promoted_arns
from imagesmith.store.records import Record

_log = logging.getLogger(__name__)


def readable(call: Call, records: Sequence[Record]) -> list[Record]:
    """Those of another account's resources whose policies let the caller read them, in the same order."""
    kept = [record for record in records if record.kind in SHAREABLE]
    policies = get_policies(call.tx, [record.arn for record in kept])
    return [
        record
        for record in kept
        if record.arn in policies and _permits(call, record, policies[record.arn], read_action(record.kind))
    ]


def listed(call: Call, kind: str) -> list[Record]:
    """The resources of other accounts in the caller's lists of a shareable type: those with promoted shares."""
    arns = promoted_arns(call.tx, region=call.region, kind=kind, other_than=call.account)
    records, policies = queries.get_many(call.tx, arns), get_policies(call.tx, arns)
    return [record for arn, record in records.items() if _permits(call, record, policies[arn], list_action(kind))]


def _permits(call: Call, record: Record, text: str, action: str) -> bool:
    try:
        policy = parse_policy(text)
    except PolicyRefused as error:
        _log.warning("the policy of %s is unknown to this version and grants no access: %s", record.arn, error)
        return False
    return policy.permits(
        AccessRequest(
            account=call.account,
            principal=call.caller.principal,
            action=action,
            resource=record.arn,
            keys=_keys(call, record),
        )
    )


def is_shared(call: Call, arn: str) -> bool:
    """Whether the policy of a resource has a statement (spec/api.md 4.5)."""
    policy = get_policy(call.tx, arn)
    return policy is not None and grants_access(policy.text)


def refusal(call: Call, kind: str, text: str) -> ApiError:
    """The error for a resource that the caller may not read, the same as for one that does not exist."""
    operation = read_action(kind).partition(":")[2] if kind in SHAREABLE else call.operation
    return access_denied(call.caller.principal, operation, text)


def _keys(call: Call, record: Record) -> dict[str, str]:
    tags = {f"{RESOURCE_TAG}{key.lower()}": value for key, value in record.tags.items()}
    return {
        **tags,
        "aws:principalaccount": call.account,
        "aws:principalarn": call.caller.principal,
        "aws:requestedregion": call.region,
        "aws:resourceaccount": record.account,
        "aws:currenttime": call.stamp,
        "aws:epochtime": str(int(call.now.timestamp())),
    }
