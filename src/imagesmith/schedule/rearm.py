"""Recompute every armed fire time: after the zone database changed, and after the clock went back.

Each row says from which moment its fire time was computed, so the same computation shows what the rules of today
mean. An instant that newer rules place in the past is then due and is treated like any missed tick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from sqlalchemy.engine import Connection

from imagesmith.resources import pipelines
from imagesmith.store import queries, schedules
from imagesmith.store.database import Database
from imagesmith.store.schedules import ArmedSchedule
from imagesmith.values.schedule import Schedule, UnknownZone, parse_schedule

_log = logging.getLogger(__name__)

_PAGE = 5000
_BATCH = 500
"""Rows per unit of work."""

_LATEST_PARSED = 10_000


@dataclass(frozen=True)
class Rearmed:
    """How many armed pipelines were looked at, and how many got another fire time."""

    seen: int
    changed: int


def rearm_all(
    database: Database, *, now: Callable[[], datetime], stop: Callable[[], bool] = lambda: False
) -> Rearmed:
    """Recompute all fire times in short units of work; `stop` ends it early, which loses nothing."""
    parsed: dict[tuple[str, str], Schedule] = {}
    seen = changed = 0
    after = ""
    while not stop():
        with database.read() as tx:
            rows = schedules.page(tx, after, _PAGE)
        if not rows:
            break
        after = rows[-1].pipeline_arn
        seen += len(rows)
        if len(parsed) > _LATEST_PARSED:
            parsed.clear()
        moment = now()
        moved = [row for row in rows if _differs(row, parsed, moment)]
        for scope, group in groupby(moved, key=lambda row: f"{row.account}/{row.region}"):
            for batch in _batches(list(group)):
                with database.write(scope) as tx:
                    changed += _rearm(tx, batch, parsed, moment)
    if changed:
        _log.info("%d of %d schedules were armed anew", changed, seen)
    return Rearmed(seen, changed)


def fire_time(row: ArmedSchedule, parsed: dict[tuple[str, str], Schedule], now: datetime) -> datetime | None:
    """The fire time of a row by the rules of today. Raises UnknownZone. `parsed` keeps what was read before.

    A row that was computed in the future comes from a clock that went back: it counts from now.
    """
    key = (row.expression, row.timezone)
    schedule = parsed.get(key)
    if schedule is None:
        schedule = parsed[key] = parse_schedule(*key, lenient=True)
    return schedule.next_after(min(row.since, now), row.anchor)


def _batches(rows: Sequence[ArmedSchedule]) -> Iterator[Sequence[ArmedSchedule]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]


def _differs(row: ArmedSchedule, parsed: dict[tuple[str, str], Schedule], now: datetime) -> bool:
    try:
        return fire_time(row, parsed, now) != row.next_fire
    except UnknownZone as error:
        # it stays armed: its tick is told in the pipeline's log as a failed run
        _log.warning("%s cannot be armed anew: %s", row.pipeline_arn, error)
        return False


def _rearm(
    tx: Connection, rows: Sequence[ArmedSchedule], parsed: dict[tuple[str, str], Schedule], now: datetime
) -> int:
    """Write what differs; a row that was armed otherwise since it was read is left alone."""
    arns = [row.pipeline_arn for row in rows]
    current, records = schedules.of_pipelines(tx, arns), queries.get_many(tx, arns)
    documents, armed, ended = [], [], []
    for row in rows:
        record = records.get(row.pipeline_arn)
        if record is None or current.get(row.pipeline_arn) != row:
            continue
        following = fire_time(row, parsed, now)
        documents.append(replace(record, document=pipelines.with_next_run(record.document, following)))
        if following is None:
            ended.append(row.pipeline_arn)
        else:
            armed.append(replace(row, since=min(row.since, now), next_fire=following))
    queries.replace_documents(tx, documents)
    schedules.arm(tx, armed)
    schedules.disarm(tx, ended)
    return len(documents)
