"""Instants of pipelines that were run, by their schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.tables import scheduled_runs
from imagesmith.store.upsert import inserting_if_absent

_NOTE_RUNS = inserting_if_absent(scheduled_runs)
_RUNS_BETWEEN = sa.select(scheduled_runs.c.pipeline_arn, scheduled_runs.c.scheduled_for).where(
    scheduled_runs.c.pipeline_arn.in_(sa.bindparam("wanted", expanding=True)),
    scheduled_runs.c.scheduled_for.between(sa.bindparam("since"), sa.bindparam("until")),
)


@dataclass(frozen=True)
class ScheduledRun:
    """An instant of a pipeline that was run; `image_arn` is empty when no image could be started."""

    pipeline_arn: str
    scheduled_for: datetime
    image_arn: str


def note_runs(tx: Connection, noted: Iterable[ScheduledRun]) -> None:
    """Record instants that were run, in the transaction that starts their runs."""
    values = [
        {
            "pipeline_arn": run.pipeline_arn,
            "scheduled_for": microseconds(run.scheduled_for),
            "image_arn": run.image_arn,
        }
        for run in noted
    ]
    _NOTE_RUNS.write(tx, values)


def runs_between(
    tx: Connection, arns: Sequence[str], since: datetime, until: datetime
) -> set[tuple[str, datetime]]:
    """(pipeline, instant) of the runs of pipelines between two instants, both included."""
    rows = tx.execute(_RUNS_BETWEEN, {"wanted": arns, "since": microseconds(since), "until": microseconds(until)})
    return {(row.pipeline_arn, from_microseconds(row.scheduled_for)) for row in rows}


def runs_of(tx: Connection, pipeline_arn: str) -> list[ScheduledRun]:
    """Every instant of a pipeline that was run, oldest first."""
    table = scheduled_runs
    query = sa.select(table).where(table.c.pipeline_arn == pipeline_arn).order_by(table.c.scheduled_for)
    return [
        ScheduledRun(row.pipeline_arn, from_microseconds(row.scheduled_for), row.image_arn)
        for row in tx.execute(query)
    ]


def forget_runs(tx: Connection, pipeline_arn: str) -> None:
    """Delete the runs of a deleted pipeline: a later one with the same ARN is another pipeline."""
    tx.execute(sa.delete(scheduled_runs).where(scheduled_runs.c.pipeline_arn == pipeline_arn))


def forget_runs_before(tx: Connection, moment: datetime) -> None:
    tx.execute(sa.delete(scheduled_runs).where(scheduled_runs.c.scheduled_for < microseconds(moment)))
