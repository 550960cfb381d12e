"""Builds: the plan, the outcome and the cancel request of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace as replace_members

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store import ancestry
from imagesmith.store.build_outcome import BuildOutcome, Retry
from imagesmith.store.prepared import Prepared
from imagesmith.store.records import Build
from imagesmith.store.tables import builds
from imagesmith.store.upsert import upserting

_PUT_BUILDS = upserting(builds)
_GET_OUTCOME = Prepared(sa.select(builds.c.outcome).where(builds.c.image_arn == sa.bindparam("wanted")))
_SET_OUTCOME = Prepared(
    sa.update(builds).where(builds.c.image_arn == sa.bindparam("changed")).values(outcome=sa.bindparam("outcome"))
)
_GET_BUILD = Prepared(sa.select(builds).where(builds.c.image_arn == sa.bindparam("wanted")))


def put_build(tx: Connection, build: Build) -> None:
    put_builds(tx, [build])


def put_builds(tx: Connection, plans: Sequence[Build]) -> None:
    values = [
        {
            "image_arn": build.image_arn,
            "plan": dict(build.plan),
            "outcome": build.outcome.to_json(),
            "cancel_requested": build.cancel_requested,
        }
        for build in plans
    ]
    _PUT_BUILDS.write(tx, values)
    ancestry.put_lineages(tx, [_lineage(build) for build in plans])


def _lineage(build: Build) -> ancestry.Lineage:
    outcome = build.outcome
    return ancestry.planned_lineage(
        build.image_arn, build.plan, digest=outcome.digest, parent_digest=_parent_digest(outcome)
    )


def _parent_digest(outcome: BuildOutcome) -> str:
    return outcome.parent_digest or outcome.parent.digest


def get_build(tx: Connection, image_arn: str) -> Build | None:
    row = _GET_BUILD.first(tx, {"wanted": image_arn})
    if row is None:
        return None
    return Build(row.image_arn, dict(row.plan), BuildOutcome.from_json(row.outcome), bool(row.cancel_requested))


def change_outcome(
    tx: Connection, image_arn: str, change: Callable[[BuildOutcome], BuildOutcome]
) -> BuildOutcome | None:
    """Apply `change` to the outcome of a build and return the new outcome; None when the build is gone."""
    row = _GET_OUTCOME.first(tx, {"wanted": image_arn})
    if row is None:
        return None
    before = BuildOutcome.from_json(row.outcome)
    outcome = change(before)
    _SET_OUTCOME.run(tx, {"changed": image_arn, "outcome": outcome.to_json()})
    digests = outcome.digest, _parent_digest(outcome)
    if digests != (before.digest, _parent_digest(before)):
        ancestry.set_digests(tx, image_arn, digest=digests[0], parent_digest=digests[1])
    return outcome


def request_cancel(tx: Connection, image_arn: str) -> None:
    tx.execute(sa.update(builds).where(builds.c.image_arn == image_arn).values(cancel_requested=True))


def reopen_build(tx: Connection, image_arn: str, retry: Retry) -> None:
    """Reopen a build that ended for a retry: clear its cancel request and its attempts."""
    tx.execute(sa.update(builds).where(builds.c.image_arn == image_arn).values(cancel_requested=False))
    change_outcome(tx, image_arn, lambda outcome: replace_members(outcome, retry=retry, attempts={}))
