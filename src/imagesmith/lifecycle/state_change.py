"""Changes the state of an image and of its AMIs without removing anything, in one transaction (spec/api.md 5.5).

DEPRECATE   status, deprecationTime; AMIs: deprecationTime and the tag DeprecatedBy
DISABLE     status; AMIs: private, cannot be launched, no deprecation
AVAILABLE   restores both; permissions to launch do not return
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Connection

from imagesmith.lifecycle.exclusions import AmiProperties, exclusion_of
from imagesmith.lifecycle.policy import Rule
from imagesmith.store import amis, queries
from imagesmith.store.amis import DISABLED_AMI, Ami
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.states import ImageStatus, LifecycleAction, LifecycleOutcome

_STATUS: Final[Mapping[LifecycleAction, ImageStatus]] = {
    LifecycleAction.DEPRECATE: ImageStatus.DEPRECATED,
    LifecycleAction.DISABLE: ImageStatus.DISABLED,
    LifecycleAction.AVAILABLE: ImageStatus.AVAILABLE,
    LifecycleAction.DELETE: ImageStatus.DELETED,
}
_TAG: Final = ("DeprecatedBy", "EC2 Image Builder")
_DEPRECATION: Final = "deprecationTime"


@dataclass(frozen=True)
class ChangedAmi:
    """An AMI of the image and what was done to it; `reason` says why it was skipped."""

    ami: Ami
    outcome: LifecycleOutcome
    reason: str = ""


def target_status(action: LifecycleAction) -> ImageStatus:
    """The status of an image after an action."""
    return _STATUS[action]


def change_state(
    tx: Connection, image: Record, rule: Rule, *, now: datetime, execution_id: str = ""
) -> Sequence[ChangedAmi]:
    """Change an image and the AMIs that the rule includes; returns these AMIs."""
    changed = change_amis(tx, image, rule, now=now, deprecated_at=now)
    done = {item.ami.ami_id for item in changed if item.outcome is LifecycleOutcome.SUCCESS}
    document = _with_states(image.document, done, _STATUS[rule.action])
    document = {**document, "state": {"status": _STATUS[rule.action]}}
    set_image(tx, image, document, rule.action, deprecated_at=now, execution_id=execution_id)
    return changed


def set_image(
    tx: Connection,
    image: Record,
    document: ApiDocument,
    action: LifecycleAction,
    *,
    deprecated_at: datetime,
    execution_id: str,
) -> None:
    """Write a changed image with its time of deprecation and the execution that changed it."""
    kept = dict(document)
    if action is LifecycleAction.DEPRECATE:
        kept[_DEPRECATION] = iso_instant(deprecated_at)
    elif action is LifecycleAction.AVAILABLE:
        kept.pop(_DEPRECATION, None)
    if execution_id:
        kept["lifecycleExecutionId"] = execution_id
    queries.replace(tx, replace(image, document=kept, status=kept["state"]["status"]))


def change_amis(
    tx: Connection, image: Record, rule: Rule, *, now: datetime, deprecated_at: datetime
) -> Sequence[ChangedAmi]:
    """Change the AMIs of an image that a rule includes; excluded ones stay as they are."""
    if not rule.include.amis:
        return ()
    changed = []
    for ami in amis.list_amis(tx, image_arn=image.arn):
        reason = exclusion_of(rule.excluded_amis, properties_of(ami), now=now)
        if not reason:
            amis.put_ami(tx, replace(ami, document=_ami_document(ami.document, rule.action, deprecated_at)))
        outcome = LifecycleOutcome.SKIPPED if reason else LifecycleOutcome.SUCCESS
        changed.append(ChangedAmi(ami, outcome, reason))
    return changed


def properties_of(ami: Ami) -> AmiProperties:
    """What exclusions look at."""
    permission, launched = ami.document.get("launchPermission", {}), ami.document.get("lastLaunched")
    return AmiProperties(
        region=ami.region,
        public="all" in permission.get("userGroups", ()),
        tags=ami.document.get("tags", {}),
        shared_accounts=frozenset(permission.get("userIds", ())),
        last_launched=parse_instant(launched) if launched else None,
    )


def _ami_document(document: Mapping[str, Any], action: LifecycleAction, deprecated_at: datetime) -> dict[str, Any]:
    dropped = {_DEPRECATION, "state", *(["launchPermission"] if action is LifecycleAction.DISABLE else [])}
    kept = {name: value for name, value in document.items() if name not in dropped}
    tags = {key: value for key, value in document.get("tags", {}).items() if (key, value) != _TAG}
    match action:
        case LifecycleAction.DEPRECATE:
            return {**kept, _DEPRECATION: iso_instant(deprecated_at), "tags": {**tags, _TAG[0]: _TAG[1]}}
        case LifecycleAction.DISABLE:
            return {**kept, "state": DISABLED_AMI, "tags": tags}
        case _:
            return {**kept, "tags": tags}


def _with_states(document: ApiDocument, ami_ids: set[str], status: ImageStatus) -> ApiDocument:
    """An image whose output AMIs among `ami_ids` have a status."""
    outputs = document.get("outputResources", {})
    if not outputs.get("amis"):
        return document
    shown = [
        {**item, "state": {"status": status}} if item.get("image") in ami_ids else item for item in outputs["amis"]
    ]
    return {**document, "outputResources": {**outputs, "amis": shown}}
