"""Queries on armed schedules and on the instants that were run, typed, on an open unit of work.

A pipeline has a row while it is ENABLED and its schedule fires again; the row changes in the transaction that
changes the pipeline's document. `since` is the moment that `next_fire` was computed from, so the same computation
under newer zone rules tells which instant was meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row

from imagesmith.store import queries
from imagesmith.store.records import Record, from_microseconds, microseconds
from imagesmith.store.tables import resources, scheduled_runs, schedules

_BUILT = ("AVAILABLE", "DEPRECATED", "DISABLED")
"""States of an image that was AVAILABLE once."""

_UNDER_WAY = ("PENDING", "CREATING", "BUILDING", "TESTING", "DISTRIBUTING", "INTEGRATING")


@dataclass(frozen=True)
class ArmedSchedule:
    """One armed pipeline."""

    pipeline_arn: str
    account: str
    region: str
    expression: str
    timezone: str
    anchor: datetime
    version: int
    """Of the schedule and status in the pipeline's document."""
    since: datetime
    next_fire: datetime


@dataclass(frozen=True)
class DuePipeline:
    """A pipeline whose fire time has come, and the scope that its unit of work locks."""

    pipeline_arn: str
    account: str
    region: str


def arm(tx: Connection, armed: ArmedSchedule) -> None:
    """Store or replace the row of a pipeline."""
    values = _columns(armed)
    statement = _insert(tx, schedules).values(values)
    changed = {name: value for name, value in values.items() if name != "pipeline_arn"}
    tx.execute(statement.on_conflict_do_update(index_elements=["pipeline_arn"], set_=changed))


def disarm(tx: Connection, pipeline_arn: str) -> None:
    tx.execute(sa.delete(schedules).where(schedules.c.pipeline_arn == pipeline_arn))


def postpone(tx: Connection, pipeline_arn: str, until: datetime) -> None:
    """Move the fire time of a row alone, for a pipeline whose document cannot be handled."""
    table = schedules
    tx.execute(sa.update(table).where(table.c.pipeline_arn == pipeline_arn).values(next_fire=microseconds(until)))


def earliest(tx: Connection) -> datetime | None:
    """When the next pipeline of any scope is due."""
    value = tx.execute(sa.select(sa.func.min(schedules.c.next_fire))).scalar()
    return None if value is None else from_microseconds(value)


def due(tx: Connection, now: datetime, limit: int) -> list[DuePipeline]:
    """Pipelines whose fire time is not after `now`, the longest due first."""
    table = schedules
    query = (
        sa.select(table.c.pipeline_arn, table.c.account, table.c.region)
        .where(table.c.next_fire <= microseconds(now))
        .order_by(table.c.next_fire, table.c.pipeline_arn)
        .limit(limit)
    )
    return [DuePipeline(row.pipeline_arn, row.account, row.region) for row in tx.execute(query)]


def still_due(tx: Connection, arns: Sequence[str], now: datetime) -> list[ArmedSchedule]:
    """Those of `arns` that are due still, now that their scope is locked, in the order of `arns`."""
    query = sa.select(schedules).where(
        schedules.c.pipeline_arn.in_(arns), schedules.c.next_fire <= microseconds(now)
    )
    found = {row.pipeline_arn: _armed(row) for row in tx.execute(query)}
    return [found[arn] for arn in arns if arn in found]


def of_pipeline(tx: Connection, pipeline_arn: str) -> ArmedSchedule | None:
    row = tx.execute(sa.select(schedules).where(schedules.c.pipeline_arn == pipeline_arn)).first()
    return None if row is None else _armed(row)


def upcoming(tx: Connection, account: str, region: str, *, until: datetime, limit: int) -> list[ArmedSchedule]:
    """Armed pipelines of one scope that fire before `until`, in that order."""
    table = schedules
    query = sa.select(table).where(
        table.c.account == account, table.c.region == region, table.c.next_fire < microseconds(until)
    )
    return [_armed(row) for row in tx.execute(query.order_by(table.c.next_fire, table.c.pipeline_arn).limit(limit))]


def page(tx: Connection, after: str, limit: int) -> list[ArmedSchedule]:
    """The next armed pipelines in the order of their ARNs, whatever their scope."""
    query = sa.select(schedules).where(schedules.c.pipeline_arn > after)
    return [_armed(row) for row in tx.execute(query.order_by(schedules.c.pipeline_arn).limit(limit))]


def note_run(tx: Connection, pipeline_arn: str, scheduled_for: datetime, image_arn: str) -> bool:
    """Claim an instant of a pipeline for a run; False when it was run before. `image_arn` is empty for none."""
    statement = _insert(tx, scheduled_runs).values(
        pipeline_arn=pipeline_arn, scheduled_for=microseconds(scheduled_for), image_arn=image_arn
    )
    return tx.execute(statement.on_conflict_do_nothing()).rowcount == 1


def was_run(tx: Connection, pipeline_arn: str, scheduled_for: datetime) -> bool:
    table = scheduled_runs
    query = sa.select(table.c.image_arn).where(
        table.c.pipeline_arn == pipeline_arn, table.c.scheduled_for == microseconds(scheduled_for)
    )
    return tx.execute(query).first() is not None


def runs_of(tx: Connection, pipeline_arn: str) -> list[tuple[datetime, str]]:
    """Every instant that was run and the image it made (empty: none), oldest first."""
    table = scheduled_runs
    query = sa.select(table).where(table.c.pipeline_arn == pipeline_arn).order_by(table.c.scheduled_for)
    return [(from_microseconds(row.scheduled_for), row.image_arn) for row in tx.execute(query)]


def forget_runs(tx: Connection, pipeline_arn: str) -> None:
    """For a pipeline that is deleted: one made later under the same ARN is another one."""
    tx.execute(sa.delete(scheduled_runs).where(scheduled_runs.c.pipeline_arn == pipeline_arn))


def forget_runs_before(tx: Connection, moment: datetime) -> None:
    tx.execute(sa.delete(scheduled_runs).where(scheduled_runs.c.scheduled_for < microseconds(moment)))


def newest_built(tx: Connection, pipeline_arn: str) -> Record | None:
    """The newest image of a pipeline that reached AVAILABLE, whoever started it."""
    table = resources
    query = (
        sa.select(table.c.arn)
        .where(table.c.source == pipeline_arn, table.c.status.in_(_BUILT))
        .order_by(table.c.created.desc(), table.c.arn.desc())
        .limit(1)
    )
    found = tx.execute(query).scalar()
    return None if found is None else queries.get(tx, found)


def is_building(tx: Connection, pipeline_arn: str) -> bool:
    """Whether a build of a pipeline has not ended."""
    table = resources
    query = sa.select(table.c.arn).where(table.c.source == pipeline_arn, table.c.status.in_(_UNDER_WAY)).limit(1)
    return tx.execute(query).first() is not None


def _insert(tx: Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT: both databases have it, each in its own dialect."""
    return sqlite.insert(table) if tx.dialect.name == "sqlite" else postgresql.insert(table)


def _columns(armed: ArmedSchedule) -> dict[str, Any]:
    return {
        "pipeline_arn": armed.pipeline_arn, "account": armed.account, "region": armed.region,
        "expression": armed.expression, "timezone": armed.timezone, "anchor": microseconds(armed.anchor),
        "version": armed.version, "since": microseconds(armed.since), "next_fire": microseconds(armed.next_fire),
    }  # fmt: skip


def _armed(row: Row[Any]) -> ArmedSchedule:
    return ArmedSchedule(
        pipeline_arn=row.pipeline_arn, account=row.account, region=row.region, expression=row.expression,
        timezone=row.timezone, anchor=from_microseconds(row.anchor), version=row.version,
        since=from_microseconds(row.since), next_fire=from_microseconds(row.next_fire),
    )  # fmt: skip
