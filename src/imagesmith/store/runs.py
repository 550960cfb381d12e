"""Claims of runs, where several processes share the work: one fence number per run.

    claim        the number grows; the earlier holder's writes are refused
    check        in the transaction of every write of a run: does the writer hold the newest number
    revoke       the number grows without a holder, because the worker is gone (workers.py)

A row stays as long as the image of its run, so that no number is handed out twice.
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
    """Another process took over the run. A BaseException: a broad handler must not catch it."""


@dataclass(frozen=True)
class Fence:
    """The right to write for a run, until another process claims the run."""

    key: str
    number: int

    def check(self, tx: Connection) -> None:
        """Raise FenceLost if the run was claimed again; the check holds until the transaction ends."""
        query = sa.select(runs.c.fence).where(runs.c.key == self.key).with_for_update(read=True)
        found = tx.execute(query).scalar()
        if found != self.number:
            raise FenceLost(f"another process took over {self.key}: its fence is {found}, not {self.number}")


def claim(tx: Connection, key: str, image_arn: str, worker: str) -> Fence | None:
    """Claim a run; None for a worker that is gone."""
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
    """Release the claim of a run that ended or is parked."""
    held = (runs.c.key == fence.key) & (runs.c.fence == fence.number)
    tx.execute(sa.update(runs).where(held).values(worker=""))


def revoke_claims(tx: Connection, worker: str) -> list[str]:
    """Revoke all claims of a worker; returns the keys of its runs."""
    change = sa.update(runs).where(runs.c.worker == worker).values(fence=runs.c.fence + 1, worker="")
    return sorted(tx.execute(change.returning(runs.c.key)).scalars())


def request_cancel(tx: Connection, key: str) -> None:
    """Ask the process that has a run to cancel it."""
    tx.execute(sa.update(runs).where(runs.c.key == key).values(cancel=True))


def cancel_requested(tx: Connection, worker: str) -> Sequence[str]:
    """The runs of a worker whose cancel was requested."""
    return list(tx.execute(sa.select(runs.c.key).where(runs.c.worker == worker, runs.c.cancel)).scalars())


def forget_runs(tx: Connection, image_arn: str) -> None:
    tx.execute(sa.delete(runs).where(runs.c.image_arn == image_arn))


def kinds_of(tx: Connection, image_arns: Collection[str]) -> dict[str, str]:
    """Image -> kind of its build, `container` or `machine`; images that are gone are left out."""
    wanted = sorted(image_arns)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        query = sa.select(builds.c.image_arn, builds.c.plan["kind"].as_string())
        query = query.where(builds.c.image_arn.in_(wanted[start : start + _AT_ONCE]))
        found |= {str(image): str(kind) for image, kind in tx.execute(query)}
    return found


def retry_numbers(tx: Connection, image_arns: Collection[str]) -> dict[str, int]:
    """Image -> number of its retries; images without retries are left out."""
    wanted = sorted(image_arns)
    number = builds.c.outcome[("retry", "number")].as_integer()
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        query = sa.select(builds.c.image_arn, number).where(
            builds.c.image_arn.in_(wanted[start : start + _AT_ONCE]), number.is_not(None)
        )
        found |= {str(image): int(count) for image, count in tx.execute(query)}
    return found


def worker_with_instance(tx: Connection, image_arn: str, execution: str = "") -> str:
    """The name of the living worker that has an instance of a build, or of one run of it; empty without one."""
    query = (
        sa.select(instances.c.worker)
        .join(workers, workers.c.name == instances.c.worker)
        .where(instances.c.image_arn == image_arn, workers.c.state == "alive")
        .limit(1)
    )
    if execution:
        query = query.where(instances.c.execution_id == execution)
    return tx.execute(query).scalar() or ""
