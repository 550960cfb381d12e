"""What a policy would do now, without doing it: the same selection and the same checks as an execution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from imagesmith.lifecycle.candidates import selected_now
from imagesmith.lifecycle.exclusions import exclusion_of
from imagesmith.lifecycle.in_use import user_of_image
from imagesmith.lifecycle.outputs import outputs_of
from imagesmith.lifecycle.policy import LifecyclePolicy, Rule
from imagesmith.lifecycle.state_change import properties_of
from imagesmith.store import amis, queries
from imagesmith.store.records import Record
from imagesmith.values.states import LifecycleAction


@dataclass(frozen=True)
class PlannedAction:
    """An action on an image, or with a `parent` on one of its outputs; `skipped` says why it would not be done."""

    resource: str
    action: LifecycleAction
    parent: str = ""
    skipped: str = ""


def preview(tx: Connection, policy: Record, *, now: datetime) -> Iterator[PlannedAction]:
    """The actions of a run of a policy that starts now: images newest first, each before its outputs."""
    rules = LifecyclePolicy.from_document(policy.document)
    for item in selected_now(tx, policy.account, policy.region, rules, now=now):
        image = queries.get(tx, item.arn)
        if image is None:
            continue
        action, deletes = item.rule.action, item.rule.action is LifecycleAction.DELETE
        used = user_of_image(tx, image) if deletes else ""
        outputs = () if used else _outputs(tx, image, item.rule, now)
        kept = next((f"{name} is kept: {reason}" for name, reason in outputs if reason), "") if deletes else ""
        yield PlannedAction(image.arn, action, skipped=used or kept)
        for name, reason in outputs:
            yield PlannedAction(name, action, parent=image.arn, skipped=reason)


def _outputs(tx: Connection, image: Record, rule: Rule, now: datetime) -> list[tuple[str, str]]:
    """The names of the outputs that a rule extends to, each with the reason why it stays."""
    if rule.action is LifecycleAction.DELETE:
        return [(output.id, output.reason) for output in outputs_of(tx, image, rule, now=now)]
    if not rule.include.amis:
        return []
    found = amis.list_amis(tx, image_arn=image.arn)
    return [(ami.ami_id, exclusion_of(rule.excluded_amis, properties_of(ami), now=now)) for ami in found]
