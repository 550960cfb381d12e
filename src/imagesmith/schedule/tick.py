"""The tick of a due pipeline: decide, start an image or not, arm the next tick; all in the caller's unit of work.

    armed row, due --> decide.at_tick --> drop    the row is updated from the document
                                      |-> skip    logged
                                      \\-> build   resolve, number, store the image, note the instant
                                          |
                                          \\-> cannot be resolved: a failed scheduled run without an image

Invariant: the image, the record that the instant was run, and the next fire time are committed together. So after
a crash, on a second server or after the clock went back an instant is either due or done.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from imagesmith.artifacts.tags import TagState
from imagesmith.build_logs import pipeline_log
from imagesmith.builds.pipeline_counts import count_run
from imagesmith.resources import pipelines
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.errors import ApiError
from imagesmith.resources.pipeline_schedules import armed_schedule
from imagesmith.resources.pipelines import PipelineRun
from imagesmith.resources.resolved_runs import ResolvedRun
from imagesmith.schedule.decide import Decision, PipelineState, Tick, after_check, at_tick
from imagesmith.schedule.parsed import ParsedSchedules
from imagesmith.schedule.resolver import Resolver
from imagesmith.schedule.start_condition import Baseline, baselines, check_condition, has_condition
from imagesmith.store import queries, scheduled_runs, schedules
from imagesmith.store.numbers import Numbers
from imagesmith.store.records import Record
from imagesmith.store.scheduled_runs import ScheduledRun
from imagesmith.store.schedules import ArmedSchedule
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.schedule import UnknownZone
from imagesmith.values.states import ImageStatus, PipelineStatus

_UNREADABLE_RETRY = timedelta(days=1)
"""When a schedule whose zone is missing from the zone database is tried again."""


@dataclass(frozen=True)
class Fired:
    """The result of a tick."""

    pipeline_arn: str
    decision: Decision
    row: ArmedSchedule | None
    """The armed row now; None: not armed any more."""
    started: PipelineRun | None = None
    failed: bool = False
    """No image could be started: the run failed."""

    @property
    def image_arn(self) -> str:
        return "" if self.started is None else self.started.run.image.arn

    @property
    def counts(self) -> bool:
        """Whether the instant was run."""
        return self.failed or self.started is not None


def fire_all(
    call: Call, arns: Sequence[str], *, tags: Mapping[str, TagState] = MappingProxyType({})
) -> list[Fired]:
    """Execute the ticks of the pipelines of one scope that are still due, in this order.

    `tags`: current states of registry tags, see start_condition.
    """
    rows = schedules.of_pipelines(call.tx, arns)
    due = [rows[arn] for arn in arns if arn in rows and rows[arn].next_fire <= call.now]
    if not due:
        return []
    batch = _Batch.of(call, due, tags)
    fired = [_fire(call, row, batch) for row in due]
    batch.numbers.save()
    pipelines.store_pipeline_runs(call, [item.started for item in fired if item.started is not None])
    schedules.arm(call.tx, [item.row for item in fired if item.row is not None])
    schedules.disarm(call.tx, [item.pipeline_arn for item in fired if item.row is None])
    scheduled_runs.note_runs(
        call.tx,
        [
            ScheduledRun(item.pipeline_arn, item.decision.scheduled_for, item.image_arn)
            for item in fired
            if item.counts and item.decision.scheduled_for is not None
        ],
    )
    return fired


def _state(record: Record, parsed: ParsedSchedules) -> PipelineState:
    """The state of a stored pipeline for decide. Raises UnknownZone when its zone is missing."""
    document = record.document
    schedule = document.get("schedule")
    if schedule is None:
        return PipelineState(document["status"] == PipelineStatus.ENABLED, None, 0, record.created)
    return PipelineState(
        enabled=document["status"] == PipelineStatus.ENABLED,
        schedule=parsed.read(schedule["scheduleExpression"], schedule["timezone"]),
        schedule_version=record.internal.schedule_version,
        anchor=parse_instant(record.internal.schedule_anchor),
        condition=schedule["pipelineExecutionStartCondition"],
    )


@dataclass(frozen=True)
class _Batch:
    """Data of the pipelines of one unit of work, read at once."""

    records: Mapping[str, Record]
    baselines: Mapping[str, Baseline]
    """Baselines of the pipelines that build only for updates."""
    done: Container[tuple[str, datetime]]
    resolver: Resolver
    numbers: Numbers
    parsed: ParsedSchedules
    tags: Mapping[str, TagState]

    @classmethod
    def of(cls, call: Call, due: Sequence[ArmedSchedule], tags: Mapping[str, TagState]) -> _Batch:
        wanted = [row.pipeline_arn for row in due]
        records = queries.get_many(call.tx, wanted)
        compared = [arn for arn, record in records.items() if has_condition(record.document)]
        # a tick covers an instant between the armed one and now
        done = scheduled_runs.runs_between(call.tx, wanted, min(row.next_fire for row in due), call.now)
        found = baselines(call.tx, compared) if compared else {}
        return cls(
            records=records,
            baselines=found,
            done=done,
            resolver=Resolver(call),
            numbers=Numbers(call.tx),
            parsed=ParsedSchedules(),
            tags=tags,
        )


def _fire(call: Call, armed: ArmedSchedule, batch: _Batch) -> Fired:
    record = batch.records.get(armed.pipeline_arn)
    policy = call.settings.schedules
    tick = Tick(armed.next_fire, armed.version)
    try:
        state = None if record is None else _state(record, batch.parsed)
    except UnknownZone as error:
        assert record is not None
        due = Decision("build", "due", tick.due, call.now + _UNREADABLE_RETRY)
        return _fail(call, record, due, f"{error}.")
    running = policy.overlap == "skip" and schedules.is_building(call.tx, armed.pipeline_arn)
    decision = at_tick(tick, state, now=call.now, running=running, policy=policy)
    if record is None or decision.outcome == "drop":
        return _drop(call, armed, record, state, decision)
    if (record.arn, decision.scheduled_for) in batch.done:
        decision = replace(decision, outcome="skip", reason=f"{decision.reason}: that run was started before")
    if decision.outcome == "skip":
        return _skip(call, record, decision)
    try:
        resolved = batch.resolver.resolve(record.document)
        if decision.outcome == "check":
            baseline = batch.baselines.get(record.arn)
            check = check_condition(baseline, resolved, policy=policy, tags=batch.tags)
            decision = after_check(decision, check)
        if decision.outcome == "skip":
            return _skip(call, record, decision)
        return _started(call, record, decision, resolved, numbers=batch.numbers)
    except ApiError as error:
        return _fail(call, record, decision, error.message)


def _started(call: Call, record: Record, decision: Decision, resolved: ResolvedRun, *, numbers: Numbers) -> Fired:
    started = pipelines.prepare_pipeline_run(
        call, record, resolved,
        tags=record.document.get("imageTags", {}), build_type="SCHEDULED", numbers=numbers,
        because=("tick", _line(decision)),
    )  # fmt: skip
    return Fired(record.arn, decision, armed_schedule(record, call.now, decision.next_fire), started)


def _skip(call: Call, record: Record, decision: Decision) -> Fired:
    _log_decision(call, record, decision)
    return Fired(record.arn, decision, armed_schedule(record, call.now, decision.next_fire))


def _fail(call: Call, record: Record, decision: Decision, why: str) -> Fired:
    """Record a failed run without an image (spec/pipelines.md 3)."""
    effect = count_run(call.tx, record, ImageStatus.FAILED, trigger="schedule", stamp=call.stamp)
    failed = replace(
        decision,
        outcome="skip",
        reason=f"{decision.reason}: no image could be started: {why} {effect.reason}",
        next_fire=None if effect.disable else decision.next_fire,
    )
    _log_decision(call, record, failed)
    row = armed_schedule(record, call.now, failed.next_fire)
    return Fired(record.arn, failed, row, failed=True)


def _drop(
    call: Call, armed: ArmedSchedule, record: Record | None, state: PipelineState | None, decision: Decision
) -> Fired:
    """Update a row that differs from its document; an ENABLED pipeline is armed by the document."""
    if record is None or state is None or not state.enabled or state.schedule is None:
        # an armed row of a DISABLED pipeline would be due and dropped again without end
        return Fired(armed.pipeline_arn, decision, None)
    # not from now: instants since the change count as missed
    since = min(max(armed.since, parse_instant(record.document["dateUpdated"])), call.now)
    following = state.schedule.next_after(since, state.anchor)
    return Fired(armed.pipeline_arn, decision, armed_schedule(record, since, following))


def _log_decision(call: Call, record: Record, decision: Decision) -> None:
    settings, now = call.settings, call.now
    call.afterwards(
        EffectKind.PIPELINE_LOG,
        record.arn,
        lambda: pipeline_log.append_lines(settings, record, ("tick", _line(decision)), now=now),
    )


def _line(decision: Decision) -> str:
    following = f"next run {iso_instant(decision.next_fire)}" if decision.next_fire else "no next run"
    return f"{decision.outcome}: {decision.reason}; {following}"
