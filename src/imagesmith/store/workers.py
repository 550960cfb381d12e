"""Rows of the processes that run builds on one database, with the time of each one's last heartbeat.

    alive --> draining --> gone        in order: it ended
      |___________________>|           its lease expired, or its successor started

`id` is new at every start, `name` stays. Instants are the database's: the clocks of hosts differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imagesmith.store.runs import ALIVE, revoke_claims
from imagesmith.store.tables import runs, workers

_SECOND = 1_000_000
_KEPT_SECONDS = 86400
"""How long the row of a worker that is gone stays: its dequeued runs are searched for that long."""


class WorkerNameTaken(RuntimeError):
    """Another worker with this name runs elsewhere."""


@dataclass(frozen=True, kw_only=True)
class StoredWorker:
    """One start of a worker."""

    id: str
    name: str
    host: str
    pid: int
    data_dir: str
    """Its data directory."""
    queues: tuple[str, ...]
    concurrency: int
    state: str = "alive"
    zone_data: str = ""
    """The version of its time zone database for schedules; empty: unknown."""


@dataclass(frozen=True)
class SeenWorker:
    """A worker for lists."""

    worker: StoredWorker
    running: int
    silent_seconds: float


def join(tx: Connection, worker: StoredWorker, *, limit_seconds: float) -> None:
    """Add a worker; its predecessor of the same name, host and data directory is gone. Raises WorkerNameTaken."""
    same = sa.select(workers).where(workers.c.name == worker.name, workers.c.state.in_(ALIVE))
    for row in tx.execute(same).all():
        fresh = row.heartbeat >= _now_of(tx) - int(limit_seconds * _SECOND)
        if fresh and (row.host, row.data_dir) != (worker.host, worker.data_dir):
            raise WorkerNameTaken(
                f"a worker named {worker.name!r} runs on {row.host} (process {row.pid}, {row.data_dir}); "
                "use another --name for this worker"
            )
        end(tx, row.id)
    now = _now_of(tx)
    old = (workers.c.state == "gone") & (workers.c.heartbeat < now - _KEPT_SECONDS * _SECOND)
    # the newest row of every name stays: logs are found by the names of their workers
    tx.execute(sa.delete(workers).where(old, workers.c.name == worker.name))
    values = {**vars(worker), "queues": list(worker.queues), "started": now, "heartbeat": now}
    tx.execute(sa.insert(workers), values)


def heartbeat(tx: Connection, worker: str) -> str:
    """Write the heartbeat of a worker; returns its state, `gone` when its lease was revoked."""
    change = sa.update(workers).where(workers.c.id == worker, workers.c.state.in_(ALIVE))
    state = tx.execute(change.values(heartbeat=_now(tx)).returning(workers.c.state)).scalar()
    return state or "gone"


def drain(tx: Connection, worker: str) -> None:
    """Mark a worker as draining: it claims no new runs."""
    change = sa.update(workers).where(workers.c.id == worker, workers.c.state == "alive")
    tx.execute(change.values(state="draining"))


def end(tx: Connection, worker: str) -> list[str]:
    """Mark a worker as gone, so that others may take over its runs; returns their keys."""
    tx.execute(sa.update(workers).where(workers.c.id == worker).values(state="gone"))
    return revoke_claims(tx, worker)


def expire_silent_workers(tx: Connection, *, limit_seconds: float) -> list[tuple[StoredWorker, list[str]]]:
    """Revoke the leases of workers without a heartbeat within the limit; returns each with the keys of its runs."""
    silent = workers.c.heartbeat < _now(tx) - int(limit_seconds * _SECOND)
    query = sa.select(workers).where(workers.c.state.in_(ALIVE), silent).with_for_update(skip_locked=True)
    found = [_worker(row) for row in tx.execute(query).all()]
    return [(worker, end(tx, worker.id)) for worker in found]


def ids(tx: Connection) -> tuple[set[str], set[str]]:
    """The ids of living workers, and of those that are gone."""
    rows = tx.execute(sa.select(workers.c.id, workers.c.state)).all()
    alive = {row.id for row in rows if row.state in ALIVE}
    return alive, {row.id for row in rows} - alive


def names(tx: Connection) -> tuple[set[str], set[str]]:
    """The names of workers that claim runs, and of the others."""
    rows = tx.execute(sa.select(workers.c.name, workers.c.state)).all()
    alive = {row.name for row in rows if row.state == "alive"}
    return alive, {row.name for row in rows} - alive


def list_workers(tx: Connection) -> Sequence[SeenWorker]:
    """The newest start of every worker, by name."""
    now = _now_of(tx)
    counts: dict[str, int] = {
        str(worker): int(count)
        for worker, count in tx.execute(sa.select(runs.c.worker, sa.func.count()).group_by(runs.c.worker))
    }
    newest: dict[str, SeenWorker] = {}
    for row in tx.execute(sa.select(workers).order_by(workers.c.name, workers.c.started)):
        seen = SeenWorker(_worker(row), counts.get(row.id, 0), max(now - row.heartbeat, 0) / _SECOND)
        newest[row.name] = seen
    return list(newest.values())


def other_zone_data(tx: Connection, worker: StoredWorker) -> list[StoredWorker]:
    """The living processes that fire schedules with another version of the time zone database than this worker."""
    others = (workers.c.id != worker.id) & (workers.c.zone_data.not_in(("", worker.zone_data)))
    query = sa.select(workers).where(workers.c.state.in_(ALIVE), others).order_by(workers.c.name)
    return [_worker(row) for row in tx.execute(query)] if worker.zone_data else []


def _now(tx: Connection) -> Any:
    """An SQL expression for the time of the database in microseconds."""
    if tx.dialect.name == "sqlite":
        return sa.cast((sa.func.julianday("now") - 2440587.5) * 86400 * _SECOND, sa.BigInteger)
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * _SECOND, sa.BigInteger)


def _now_of(tx: Connection) -> int:
    return int(tx.execute(sa.select(_now(tx))).scalar_one())


def _worker(row: Row[Any]) -> StoredWorker:
    return StoredWorker(
        id=row.id,
        name=row.name,
        host=row.host,
        pid=row.pid,
        data_dir=row.data_dir,
        queues=tuple(row.queues),
        concurrency=row.concurrency,
        state=row.state,
        zone_data=row.zone_data,
    )
