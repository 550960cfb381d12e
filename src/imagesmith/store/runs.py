"""Which process may carry a run on, where several share the work: one fence number per run.

    claim        the number grows; who held the one before may write no more
    check        in the transaction of every write of a run: is the number still mine
    take away    the number grows without a holder, because the worker is gone (workers.py)

A row stays as long as the image of its run, so that a number is never handed out twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.tables import builds, instances, runs, workers

_AT_ONCE = 500

ALIVE = ("alive", "draining")
"""States of a worker that may hold runs."""


class FenceLost(BaseException):
    """Another process goes on with the run. A BaseException: no broad handler may explain it away."""


@dataclass(frozen=True)
class Fence:
    """The right to write for a run, until somebody else claims it."""

    key: str
    number: int

    def check(self, tx: Connection) -> None:
        """Raise FenceLost unless the run is still ours; holds until the transaction ends."""
        query = sa.select(runs.c.fence).where(runs.c.key == self.key).with_for_update(read=True)
        found = tx.execute(query).scalar()
        if found != self.number:
            raise FenceLost(
                f"another process goes on with {self.key}: its fence is {found}, ours was {self.number}"
            )


def claim(tx: Connection, key: str, image_arn: str, worker: str) -> Fence | None:
    """The right to carry a run on; None for a worker that was declared gone."""
    state = sa.select(workers.c.state).where(workers.c.id == worker).with_for_update(read=True)
    if tx.execute(state).scalar() not in ALIVE:
        return None
    changed = tx.execute(
        sa.update(runs)
        .where(runs.c.key == key)
        .values(fence=runs.c.fence + 1, worker=worker, cancel=False)
        .returning(runs.c.fence)
    ).scalar()
    if changed is None:
        row = {"key": key, "image_arn": image_arn, "fence": 1, "worker": worker, "cancel": False}
        tx.execute(sa.insert(runs), row)
    return Fence(key, changed or 1)


def release(tx: Connection, fence: Fence) -> None:
    """The run is over, or is parked: nobody works on it."""
    held = (runs.c.key == fence.key) & (runs.c.fence == fence.number)
    tx.execute(sa.update(runs).where(held).values(worker=""))


def take_away(tx: Connection, worker: str) -> list[str]:
    """End the right of a worker to all its runs; gives their keys."""
    change = sa.update(runs).where(runs.c.worker == worker).values(fence=runs.c.fence + 1, worker="")
    return sorted(tx.execute(change.returning(runs.c.key)).scalars())


def ask_to_cancel(tx: Connection, key: str) -> None:
    """Leave word for the process that works on a run."""
    tx.execute(sa.update(runs).where(runs.c.key == key).values(cancel=True))


def asked_to_cancel(tx: Connection, worker: str) -> Sequence[str]:
    """The runs of a worker that are to stop."""
    return list(tx.execute(sa.select(runs.c.key).where(runs.c.worker == worker, runs.c.cancel)).scalars())


def forget_runs(tx: Connection, image_arn: str) -> None:
    tx.execute(sa.delete(runs).where(runs.c.image_arn == image_arn))


def kinds_of(tx: Connection, image_arns: Collection[str]) -> dict[str, str]:
    """Image -> what its build makes, `container` or `machine`; without images that are gone."""
    wanted = sorted(image_arns)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        query = sa.select(builds.c.image_arn, builds.c.plan["kind"].as_string())
        query = query.where(builds.c.image_arn.in_(wanted[start : start + _AT_ONCE]))
        found |= {str(image): str(kind) for image, kind in tx.execute(query)}
    return found


def retry_numbers(tx: Connection, image_arns: Collection[str]) -> dict[str, int]:
    """Image -> how often it was retried, for those that were."""
    wanted = sorted(image_arns)
    number = builds.c.outcome[("retry", "number")].as_integer()
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        query = sa.select(builds.c.image_arn, number).where(
            builds.c.image_arn.in_(wanted[start : start + _AT_ONCE]), number.is_not(None)
        )
        found |= {str(image): int(count) for image, count in tx.execute(query)}
    return found


def home_of(tx: Connection, image_arn: str, execution: str = "") -> str:
    """The name of the living worker that has an instance of a build, or of one run of it; empty: there is none."""
    query = (
        sa.select(instances.c.worker)
        .join(workers, workers.c.name == instances.c.worker)
        .where(instances.c.image_arn == image_arn, workers.c.state == "alive")
        .limit(1)
    )
    if execution:
        query = query.where(instances.c.execution_id == execution)
    return tx.execute(query).scalar() or ""
