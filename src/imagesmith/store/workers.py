"""Rows of the processes that run builds on one database: who they are and when each was heard of last.

    alive --> draining --> gone        in order: it ended
      |___________________>|           it was silent for too long, or its successor started

`id` is new at every start, `name` stays. Instants are those of the database: the clocks of hosts differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imagesmith.store.runs import ALIVE, take_away
from imagesmith.store.tables import runs, workers

_SECOND = 1_000_000
_KEPT_SECONDS = 86400
"""How long the row of a worker that is gone stays: what it had dequeued is looked for that long."""


class WorkerNameTaken(RuntimeError):
    """A worker of this name runs elsewhere."""


@dataclass(frozen=True)
class StoredWorker:
    """One start of one worker."""

    id: str
    name: str
    host: str
    pid: int
    place: str
    """Its data directory."""
    queues: tuple[str, ...]
    concurrency: int
    state: str = "alive"


@dataclass(frozen=True)
class SeenWorker:
    """A worker as others see it."""

    worker: StoredWorker
    running: int
    silent_seconds: float


def join(tx: Connection, worker: StoredWorker, *, limit_seconds: float) -> None:
    """Add a worker; one of the same name, host and data directory before it is gone. Raises WorkerNameTaken."""
    same = sa.select(workers).where(workers.c.name == worker.name, workers.c.state.in_(ALIVE))
    for row in tx.execute(same).all():
        fresh = row.heartbeat >= _now_of(tx) - int(limit_seconds * _SECOND)
        if fresh and (row.host, row.place) != (worker.host, worker.place):
            raise WorkerNameTaken(
                f"a worker named {worker.name!r} runs on {row.host} (process {row.pid}, {row.place}); "
                "give this one a --name of its own"
            )
        end(tx, row.id)
    now = _now_of(tx)
    old = (workers.c.state == "gone") & (workers.c.heartbeat < now - _KEPT_SECONDS * _SECOND)
    # the newest of every name stays: logs are found by the names of those who wrote them
    tx.execute(sa.delete(workers).where(old, workers.c.name == worker.name))
    values = {**vars(worker), "queues": list(worker.queues), "started": now, "heartbeat": now}
    tx.execute(sa.insert(workers), values)


def beat(tx: Connection, worker: str) -> str:
    """Say that a worker lives; gives its state, `gone` when it was given up."""
    change = sa.update(workers).where(workers.c.id == worker, workers.c.state.in_(ALIVE))
    state = tx.execute(change.values(heartbeat=_now(tx)).returning(workers.c.state)).scalar()
    return state or "gone"


def drain(tx: Connection, worker: str) -> None:
    """A worker takes nothing new."""
    change = sa.update(workers).where(workers.c.id == worker, workers.c.state == "alive")
    tx.execute(change.values(state="draining"))


def end(tx: Connection, worker: str) -> list[str]:
    """A worker is gone, and others may go on with its runs; gives their keys."""
    tx.execute(sa.update(workers).where(workers.c.id == worker).values(state="gone"))
    return take_away(tx, worker)


def end_silent(tx: Connection, *, limit_seconds: float) -> list[tuple[StoredWorker, list[str]]]:
    """Give up every worker that was silent for longer than the limit: who it was, and the keys of its runs."""
    silent = workers.c.heartbeat < _now(tx) - int(limit_seconds * _SECOND)
    query = sa.select(workers).where(workers.c.state.in_(ALIVE), silent).with_for_update(skip_locked=True)
    found = [_worker(row) for row in tx.execute(query).all()]
    return [(worker, end(tx, worker.id)) for worker in found]


def ids(tx: Connection) -> tuple[set[str], set[str]]:
    """The ids of workers that live, and of those that are gone."""
    rows = tx.execute(sa.select(workers.c.id, workers.c.state)).all()
    alive = {row.id for row in rows if row.state in ALIVE}
    return alive, {row.id for row in rows} - alive


def names(tx: Connection) -> tuple[set[str], set[str]]:
    """The names of workers that take work, and of the others."""
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


def _now(tx: Connection) -> Any:
    """The time of the database in microseconds, as an expression."""
    if tx.dialect.name == "sqlite":
        return sa.cast((sa.func.julianday("now") - 2440587.5) * 86400 * _SECOND, sa.BigInteger)
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * _SECOND, sa.BigInteger)


def _now_of(tx: Connection) -> int:
    return int(tx.execute(sa.select(_now(tx))).scalar_one())


def _worker(row: Row[Any]) -> StoredWorker:
    return StoredWorker(
        row.id, row.name, row.host, row.pid, row.place, tuple(row.queues), row.concurrency, row.state
    )
