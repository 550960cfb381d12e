"""Typed queries on armed schedules, within an open unit of work.

A pipeline has a row while it is ENABLED and its schedule fires again; the row changes in the transaction that
changes the pipeline's schedule or status. The fire time is stored only here and answers read it from here, so
arming a million pipelines again changes no document. `since` is the moment from which `next_fire` was computed, so
the same computation under newer zone rules finds the intended instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imagesmith.store import queries
from imagesmith.store.prepared import Prepared
from imagesmith.store.records import Record, from_microseconds, microseconds
from imagesmith.store.tables import resources, schedules
from imagesmith.store.upsert import upserting, upserts
from imagesmith.values.states import BUILT_IMAGE, UNFINISHED_IMAGE

# built once: see store.upsert
_ARM = upserting(schedules)
_ARM_ONE = Prepared(upserts(schedules))
_KEEP_TIME = Prepared(
    sa.update(schedules)
    .where(schedules.c.pipeline_arn == sa.bindparam("armed"), schedules.c.next_fire == sa.bindparam("same"))
    .values({name: sa.bindparam(name) for name in ("expression", "timezone", "anchor", "version", "since")})
)
"""Most updates of a pipeline keep its next fire time; SQLite would rewrite the index of a named column."""
_DISARM = sa.delete(schedules).where(schedules.c.pipeline_arn.in_(sa.bindparam("wanted", expanding=True)))
_EARLIEST = sa.select(sa.func.min(schedules.c.next_fire)).where(schedules.c.next_fire > sa.bindparam("moment"))
_DUE = (
    sa.select(schedules.c.pipeline_arn, schedules.c.account, schedules.c.region)
    .where(schedules.c.next_fire <= sa.bindparam("now"))
    .order_by(schedules.c.next_fire)
    .limit(sa.bindparam("most"))
)
_OF_PIPELINES = sa.select(schedules).where(schedules.c.pipeline_arn.in_(sa.bindparam("wanted", expanding=True)))
_FIRE_TIMES = (
    sa.select(
        *(schedules.c[name] for name in ("pipeline_arn", "account", "region", "expression", "timezone")),
        *(schedules.c[name] for name in ("anchor", "since", "next_fire", "version")),
    )
    .where(schedules.c.pipeline_arn > sa.bindparam("after"))
    .order_by(schedules.c.pipeline_arn)
    .limit(sa.bindparam("most"))
)
_NEXT_FIRE = Prepared(sa.select(schedules.c.next_fire).where(schedules.c.pipeline_arn == sa.bindparam("wanted")))
_NEXT_FIRES = sa.select(schedules.c.pipeline_arn, schedules.c.next_fire).where(
    schedules.c.pipeline_arn.in_(sa.bindparam("wanted", expanding=True))
)
_REARM: Final = (
    "UPDATE schedules SET since = ?, next_fire = ? "
    "WHERE pipeline_arn = ? AND since = ? AND next_fire = ? AND version = ?"
)
"""SQLite: directly on the driver, which takes a tenth of the time of SQLAlchemy's handling of each row."""

_REARM_MANY: Final = sa.text(
    "UPDATE schedules SET since = moved.since, next_fire = moved.next_fire FROM "
    "unnest(CAST(:since AS bigint[]), CAST(:next_fire AS bigint[]), CAST(:arn AS text[]), "
    "CAST(:was_since AS bigint[]), CAST(:was_next_fire AS bigint[]), CAST(:version AS bigint[])) "
    "AS moved(since, next_fire, arn, was_since, was_next_fire, version) "
    "WHERE schedules.pipeline_arn = moved.arn AND schedules.since = moved.was_since "
    "AND schedules.next_fire = moved.was_next_fire AND schedules.version = moved.version"
)
"""PostgreSQL: one statement for a batch; a statement for each row would be a message for each row."""

_DISARM_AS_READ = sa.delete(schedules).where(
    schedules.c.pipeline_arn == sa.bindparam("arn"),
    schedules.c.since == sa.bindparam("was_since"),
    schedules.c.next_fire == sa.bindparam("was_next_fire"),
    schedules.c.version == sa.bindparam("was_version"),
)
_PIPELINES = resources.alias("pipelines")
NEWEST_BUILT = sa.select(
    _PIPELINES.c.arn,
    sa.select(resources.c.arn)
    .where(resources.c.source == _PIPELINES.c.arn, resources.c.status.in_(BUILT_IMAGE))
    .order_by(resources.c.created.desc(), resources.c.arn.desc())
    .limit(1)
    .scalar_subquery(),
).where(_PIPELINES.c.arn.in_(sa.bindparam("wanted", expanding=True)))
_BUILDING = (
    sa.select(resources.c.arn)
    .where(resources.c.source == sa.bindparam("wanted"), resources.c.status.in_(UNFINISHED_IMAGE))
    .limit(1)
)


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
    """The version of the schedule and status in the pipeline's document."""
    since: datetime
    next_fire: datetime


@dataclass(frozen=True)
class DuePipeline:
    """A due pipeline, and the scope that its unit of work locks."""

    pipeline_arn: str
    account: str
    region: str


def arm(tx: Connection, rows: Iterable[ArmedSchedule]) -> None:
    """Store or replace rows."""
    values = [_columns(row) for row in rows]
    if len(values) == 1:
        [row] = values
        if not _KEEP_TIME.run(tx, {**row, "armed": row["pipeline_arn"], "same": row["next_fire"]}):
            _ARM_ONE.run(tx, row)
    else:
        _ARM.write(tx, values)


def disarm(tx: Connection, arns: Sequence[str]) -> None:
    if arns:
        tx.execute(_DISARM, {"wanted": arns})


def earliest_after(tx: Connection, moment: datetime) -> datetime | None:
    """The first fire time of any scope after `moment`."""
    value = tx.execute(_EARLIEST, {"moment": microseconds(moment)}).scalar()
    return None if value is None else from_microseconds(value)


def due(tx: Connection, now: datetime, limit: int) -> list[DuePipeline]:
    """Pipelines whose fire time is not after `now`, the earliest first."""
    rows = tx.execute(_DUE, {"now": microseconds(now), "most": limit}).all()
    return [DuePipeline(row.pipeline_arn, row.account, row.region) for row in rows]


def of_pipelines(tx: Connection, arns: Sequence[str]) -> Mapping[str, ArmedSchedule]:
    """The rows of the armed pipelines among `arns`."""
    return {row.pipeline_arn: _armed(row) for row in tx.execute(_OF_PIPELINES, {"wanted": arns}).all()}


def of_pipeline(tx: Connection, arn: str) -> ArmedSchedule | None:
    return of_pipelines(tx, [arn]).get(arn)


def next_fires(tx: Connection, arns: Sequence[str]) -> dict[str, datetime]:
    """The next fire times of armed pipelines."""
    if len(arns) == 1:
        row = _NEXT_FIRE.first(tx, {"wanted": arns[0]})
        return {} if row is None else {arns[0]: from_microseconds(row.next_fire)}
    rows = tx.execute(_NEXT_FIRES, {"wanted": arns}) if arns else ()
    return {row.pipeline_arn: from_microseconds(row.next_fire) for row in rows}


def upcoming(tx: Connection, account: str, region: str, *, until: datetime, limit: int) -> list[ArmedSchedule]:
    """Armed pipelines of a scope that fire before `until`, in the order of their fire times."""
    table = schedules
    query = sa.select(table).where(
        table.c.account == account, table.c.region == region, table.c.next_fire < microseconds(until)
    )
    return [_armed(row) for row in tx.execute(query.order_by(table.c.next_fire).limit(limit))]


class FireTime(NamedTuple):
    """An armed row in the units of the table, for walks over all of them: microseconds since the epoch."""

    pipeline_arn: str
    account: str
    region: str
    expression: str
    timezone: str
    anchor: int
    since: int
    next_fire: int
    version: int


def fire_times(tx: Connection, after: str, limit: int) -> list[FireTime]:
    """The next armed pipelines of all scopes, in the order of their ARNs."""
    return [FireTime._make(row) for row in tx.execute(_FIRE_TIMES, {"after": after, "most": limit}).all()]


class Rearmed(NamedTuple):
    """A row as it was read, and its new fire time in microseconds; None: it does not fire again."""

    row: FireTime
    since: int
    next_fire: int | None


def rearm(tx: Connection, moved: Sequence[Rearmed]) -> int:
    """Write new fire times of armed rows, except rows that changed since they were read; returns their number."""
    ended = [
        {
            "arn": row.pipeline_arn, "was_since": row.since, "was_next_fire": row.next_fire,
            "was_version": row.version,
        }
        for row, _, following in moved
        if following is None
    ]  # fmt: skip
    done = sum(tx.execute(_DISARM_AS_READ, values).rowcount for values in ended)
    rows = [
        (since, following, row.pipeline_arn, row.since, row.next_fire, row.version)
        for row, since, following in moved
        if following is not None
    ]
    if not rows:
        return done
    if tx.dialect.name == "sqlite":
        return done + tx.exec_driver_sql(_REARM, rows).rowcount
    names = ("since", "next_fire", "arn", "was_since", "was_next_fire", "version")
    columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    return done + tx.execute(_REARM_MANY, columns).rowcount


def newest_built(tx: Connection, pipeline_arns: Sequence[str]) -> dict[str, Record]:
    """The newest AVAILABLE image of each pipeline, by schedule or by request."""
    rows = tx.execute(NEWEST_BUILT, {"wanted": pipeline_arns})
    found = {pipeline: image for pipeline, image in rows if image is not None}
    images = queries.get_many(tx, list(found.values())) if found else {}
    return {pipeline: images[image] for pipeline, image in found.items() if image in images}


def is_building(tx: Connection, pipeline_arn: str) -> bool:
    """Whether a build of a pipeline has not ended."""
    return tx.execute(_BUILDING, {"wanted": pipeline_arn}).first() is not None


def _columns(armed: ArmedSchedule) -> Mapping[str, str | int]:
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
