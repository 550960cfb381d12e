"""The agenda of an account and region: which pipelines its schedules will fire in a span of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from imagesmith.schedule.parsed import ParsedSchedules
from imagesmith.store import queries, schedules
from imagesmith.store.schedules import ArmedSchedule
from imagesmith.values.schedule import Schedule

_MOST_INSTANTS = 1440
"""Instants per pipeline: one a minute for a day."""


@dataclass(frozen=True)
class Appointment:
    """A pipeline that fires within the span."""

    pipeline_arn: str
    name: str
    expression: str
    timezone: str
    condition: str
    instants: tuple[datetime, ...]
    """In UTC, 1 to 1440; the first is dateNextRun, which is in the past while a tick is under way."""


def agenda(
    tx: Connection, account: str, region: str, *, now: datetime, until: datetime, most: int
) -> list[Appointment]:
    """The first `most` pipelines that fire before `until`, earliest first."""
    rows = schedules.upcoming(tx, account, region, until=until, limit=most)
    documents: Mapping[str, Mapping[str, object]] = queries.documents(tx, [row.pipeline_arn for row in rows])
    parsed, found = ParsedSchedules(), []
    for row in rows:
        document = documents[row.pipeline_arn]
        schedule = document["schedule"]
        assert isinstance(schedule, dict)
        found.append(
            Appointment(
                pipeline_arn=row.pipeline_arn,
                name=str(document["name"]),
                expression=row.expression,
                timezone=row.timezone,
                condition=schedule["pipelineExecutionStartCondition"],
                instants=_instants(row, now, until, parsed.read(row.expression, row.timezone)),
            )
        )
    return found


def _instants(row: ArmedSchedule, now: datetime, until: datetime, rule: Schedule) -> tuple[datetime, ...]:
    """The armed instant and the instants after it; one run covers all missed instants."""
    instants = [row.next_fire]
    while len(instants) < _MOST_INSTANTS:
        following = rule.next_after(max(instants[-1], now), row.anchor)
        if following is None or following >= until:
            break
        instants.append(following)
    return tuple(instants)
