"""The outputs of an image that a DELETE extends to: AMIs with their disks, containers with their references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.lifecycle.exclusions import exclusion_of
from imagesmith.lifecycle.policy import Rule
from imagesmith.lifecycle.state_change import properties_of
from imagesmith.store import amis
from imagesmith.store.lifecycle import LifecycleResource
from imagesmith.store.records import Record
from imagesmith.values.names import iso_instant
from imagesmith.values.states import LifecycleOutcome


@dataclass(frozen=True, kw_only=True)
class ImageOutput:
    """An AMI or a container of one Region, as it is stored below its image."""

    id: str
    account: str
    region: str
    outcome: LifecycleOutcome
    reason: str = ""
    digest: str = ""
    """Of the disk of an AMI that goes as well."""
    uris: tuple[str, ...] = ()
    members: Mapping[str, Any] = field(default_factory=dict)


def outputs_of(tx: Connection, image: Record, rule: Rule, *, now: datetime) -> Sequence[ImageOutput]:
    """The outputs that a rule includes; the excluded ones are SKIPPED."""
    found = []
    if rule.include.amis:
        for ami in amis.list_amis(tx, image_arn=image.arn):
            reason = exclusion_of(rule.excluded_amis, properties_of(ami), now=now)
            outcome = LifecycleOutcome.SKIPPED if reason else LifecycleOutcome.IN_PROGRESS
            digest = ami.digest if rule.include.snapshots else ""
            snapshots = [{"snapshotId": ami.snapshot_id}] if digest else []
            found.append(
                ImageOutput(
                    id=ami.ami_id, account=ami.account, region=ami.region, outcome=outcome, reason=reason,
                    digest=digest, members={"snapshots": snapshots} if snapshots else {},
                )
            )  # fmt: skip
    if rule.include.containers:
        for index, item in enumerate(image.document.get("outputResources", {}).get("containers", ())):
            uris = tuple(item.get("imageUris", ()))
            found.append(
                ImageOutput(
                    id=uris[0] if uris else f"container-{index}", account=image.account,
                    region=item.get("region", image.region), outcome=LifecycleOutcome.IN_PROGRESS, uris=uris,
                    members={"imageUris": list(uris)},
                )
            )  # fmt: skip
    return found


def stored_output(
    item: LifecycleResource, index: int, output: ImageOutput, *, action: str, now: datetime
) -> LifecycleResource:
    """The row of an output below its image."""
    ended = {} if output.outcome is LifecycleOutcome.IN_PROGRESS else {"endTime": iso_instant(now)}
    return LifecycleResource(
        execution_id=item.execution_id, parent_id=item.resource_id, resource_id=output.id, position=index,
        status=output.outcome,
        document={
            "action": action, "account": output.account, "region": output.region, "reason": output.reason,
            "digest": output.digest, "startTime": iso_instant(now), **output.members, **ended,
        },
    )  # fmt: skip
