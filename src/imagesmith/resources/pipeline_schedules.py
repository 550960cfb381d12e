"""Schedules of pipelines: when a pipeline runs next, and the row that the clock reads (spec/pipelines.md 1, 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from imagesmith.build_logs import pipeline_log
from imagesmith.resources.call import Call, EffectKind
from imagesmith.store import schedules
from imagesmith.store.internal_members import InternalMembers
from imagesmith.store.records import Record
from imagesmith.store.schedules import ArmedSchedule
from imagesmith.values.api import ApiDocument
from imagesmith.values.endings import why_over
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.schedule import Schedule, parse_schedule
from imagesmith.values.states import PipelineStatus

read_schedule = lru_cache(maxsize=1024)(parse_schedule)
"""An update seldom changes the schedule, and many pipelines share one; parsed schedules are frozen."""


def internal_members(call: Call, document: ApiDocument, earlier: Record | None) -> InternalMembers:
    version = 1 + (earlier.internal.schedule_version if earlier else 0)
    if "schedule" not in document:
        return InternalMembers(schedule_version=version)
    return InternalMembers(schedule_version=version, schedule_anchor=_anchor(call, document["schedule"], earlier))


def _anchor(call: Call, schedule: Mapping[str, Any], earlier: Record | None) -> str:
    """The same rate text keeps its anchor over an update (spec/pipelines.md 2.3)."""
    if earlier is not None and earlier.internal.schedule_anchor:
        before = earlier.document.get("schedule", {}).get("scheduleExpression")
        if before == schedule["scheduleExpression"]:
            return earlier.internal.schedule_anchor
    # runs are shown and planned in whole minutes (spec/pipelines.md 10, no. 11)
    return iso_instant(call.now.replace(second=0, microsecond=0))


def armed_schedule(record: Record, since: datetime, next_fire: datetime | None) -> ArmedSchedule | None:
    """The schedule row of a pipeline that fires at `next_fire`; None for None. `since`: see store.schedules."""
    if next_fire is None:
        return None
    document = record.document
    return ArmedSchedule(
        record.arn, record.account, record.region,
        expression=document["schedule"]["scheduleExpression"],
        timezone=document["schedule"]["timezone"],
        anchor=parse_instant(record.internal.schedule_anchor),
        version=record.internal.schedule_version,
        since=since,
        next_fire=next_fire,
    )  # fmt: skip


def arm(call: Call, record: Record, schedule: Schedule | None) -> None:
    """Store the next fire time for the clock, in the same unit of work (spec/pipelines.md 1)."""
    following = None
    if schedule is not None and record.status == PipelineStatus.ENABLED:
        following = _next_run(schedule, call.now, record.internal.schedule_anchor)
        if following is None:
            reason = why_over(schedule, call.now)
            line = f"warning: {record.document['schedule']['scheduleExpression']}: {reason}"
            log = partial(pipeline_log.append_lines, call.settings, record, ("schedule", line), now=call.now)
            call.afterwards(EffectKind.PIPELINE_LOG, record.arn, log)
    row = armed_schedule(record, call.now, following)
    if row is None:
        schedules.disarm(call.tx, [record.arn])
        return
    schedules.arm(call.tx, [row])
    if call.wake_clock is not None:
        call.afterwards(EffectKind.CLOCK, record.arn, partial(call.wake_clock, row.next_fire))


def _next_run(schedule: Schedule, now: datetime, anchor: str) -> datetime | None:
    following = _run_after_minute(schedule, now.replace(second=0, microsecond=0), anchor)
    if following is None or following > now:
        return following
    return schedule.next_after(now, anchor=parse_instant(anchor))  # an anchor within a minute


@lru_cache(maxsize=1024)
def _run_after_minute(schedule: Schedule, minute: datetime, anchor: str) -> datetime | None:
    """Runs are whole minutes: many updates of one minute ask for the same one."""
    return schedule.next_after(minute, anchor=parse_instant(anchor))


def with_next_runs(call: Call, shown: Sequence[ApiDocument]) -> list[ApiDocument]:
    """Pipelines as Get and List show them: dateNextRun comes from the clock's row and is absent without a row."""
    following = schedules.next_fires(call.tx, [item["arn"] for item in shown])
    return [
        {**item, "dateNextRun": iso_instant(following[item["arn"]])} if item["arn"] in following else item
        for item in shown
    ]
