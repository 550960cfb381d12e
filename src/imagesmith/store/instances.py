"""Rows of instances: their builds, their workers, and whether another process can enter them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imagesmith.store.tables import instances
from imagesmith.store.upsert import for_dialect, upserts

_PUT = upserts(instances)


@dataclass(frozen=True)
class StoredInstance:
    """An instance of a build. `suspended`: nothing runs inside and it can be entered again, or it is kept."""

    id: str
    image_arn: str
    execution_id: str
    suspended: bool = False
    worker: str = ""
    """The name of its worker, if there are several workers."""


def put_instance(tx: Connection, instance: StoredInstance) -> None:
    tx.execute(for_dialect(tx, _PUT), vars(instance))


def get_instance(tx: Connection, instance_id: str) -> StoredInstance | None:
    row = tx.execute(sa.select(instances).where(instances.c.id == instance_id)).first()
    return None if row is None else _instance(row)


def instances_of(tx: Connection, image_arn: str) -> list[StoredInstance]:
    query = sa.select(instances).where(instances.c.image_arn == image_arn).order_by(instances.c.id)
    return [_instance(row) for row in tx.execute(query)]


def suspended_instances(tx: Connection, worker: str = "") -> list[str]:
    """Ids of instances that a clean-up on this worker must not remove."""
    mine = instances.c.worker.in_(("", worker))
    return [str(row.id) for row in tx.execute(sa.select(instances.c.id).where(instances.c.suspended, mine))]


def set_suspended(tx: Connection, instance_id: str, suspended: bool) -> None:
    tx.execute(sa.update(instances).where(instances.c.id == instance_id).values(suspended=suspended))


def forget_instance(tx: Connection, instance_id: str) -> None:
    tx.execute(sa.delete(instances).where(instances.c.id == instance_id))


def forget_instances(tx: Connection, image_arn: str) -> None:
    tx.execute(sa.delete(instances).where(instances.c.image_arn == image_arn))


def _instance(row: Row[Any]) -> StoredInstance:
    return StoredInstance(
        id=row.id,
        image_arn=row.image_arn,
        execution_id=row.execution_id,
        suspended=bool(row.suspended),
        worker=row.worker,
    )
