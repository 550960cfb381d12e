"""A due pipeline: decide, start or not, arm the next tick; all of it in the one unit of work it is called in.

    armed row, due --> decide.at_tick --> drop    the row is brought in step with the document
                                      |-> skip    told
                                      \\-> build   resolve, number, store the image, note the instant
                                          |
                                          \\-> cannot be resolved: a failed scheduled run without an image

Invariant: the image, the note that the instant was run, and the next fire time become true together or not at all.
So a process that dies, a second server or a clock that goes back finds an instant either due or done.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from imagesmith.artifacts.tags import TagState
from imagesmith.resources import pipelines
from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError
from imagesmith.resources.pipelines import PipelineRun
from imagesmith.resources.runs import ResolvedRun
from imagesmith.schedule.decide import Decision, PipelineState, Tick, after_check, at_tick
from imagesmith.schedule.parsed import ParsedSchedules
from imagesmith.schedule.resolver import Resolver
from imagesmith.schedule.start_condition import Baseline, baselines, check_condition, has_condition
from imagesmith.store import queries, schedules
from imagesmith.store.numbers import Numbers
from imagesmith.store.records import Record
from imagesmith.store.schedules import ArmedSchedule, ScheduledRun
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.schedule import UnknownZone
from imagesmith.workflows import pipeline_log
from imagesmith.workflows.records import count_run

_UNREADABLE_RETRY = timedelta(days=1)
"""When a schedule whose zone is missing from the zone database is looked at again."""


@dataclass(frozen=True)
class Fired:
    """What became of a due pipeline."""

    pipeline_arn: str
    decision: Decision
    row: ArmedSchedule | None
    """How it is armed now; None: no longer."""
    started: PipelineRun | None = None
    failed: bool = False
    """No image could be started: a failed run."""

    @property
    def image_arn(self) -> str:
        return "" if self.started is None else self.started.run.image.arn

    @property
    def counts(self) -> bool:
        """The instant was run."""
        return self.failed or self.started is not None


def fire_all(
    call: Call, arns: Sequence[str], *, tags: Mapping[str, TagState] = MappingProxyType({})
) -> list[Fired]:
    """Carry out the ticks of those pipelines of one scope that are due still, in this order.

    `tags`: what registry tags mean now, see start_condition.
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
    schedules.note_runs(
        call.tx,
        [
            ScheduledRun(item.pipeline_arn, item.decision.scheduled_for, item.image_arn)
            for item in fired
            if item.counts and item.decision.scheduled_for is not None
        ],
    )
    return fired


def _state(record: Record, parsed: ParsedSchedules) -> PipelineState:
    """What decide needs of a stored pipeline. Raises UnknownZone when the zone database lost its zone."""
    document = record.document
    schedule = document.get("schedule")
    if schedule is None:
        return PipelineState(document["status"] == "ENABLED", None, 0, record.created)
    return PipelineState(
        enabled=document["status"] == "ENABLED",
        schedule=parsed.read(schedule["scheduleExpression"], schedule["timezone"]),
        schedule_version=int(document.get(pipelines.VERSION, 0)),
        anchor=parse_instant(document[pipelines.ANCHOR]),
        condition=schedule["pipelineExecutionStartCondition"],
    )


@dataclass(frozen=True)
class _Batch:
    """What the pipelines of one unit of work share, read at once."""

    records: Mapping[str, Record]
    baselines: Mapping[str, Baseline]
    """Of those that build for updates only."""
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
        # a tick stands for an instant between the one that was armed and now
        done = schedules.runs_between(call.tx, wanted, min(row.next_fire for row in due), call.now)
        found = baselines(call.tx, compared) if compared else {}
        return cls(records, found, done, Resolver(call), Numbers(call.tx), ParsedSchedules(), tags)


def _fire(call: Call, armed: ArmedSchedule, batch: _Batch) -> Fired:
    record = batch.records.get(armed.pipeline_arn)
    policy = call.settings.schedules
    tick = Tick(armed.next_fire, armed.version)
    try:
        state = None if record is None else _state(record, batch.parsed)
    except UnknownZone as error:
        assert record is not None
        due = Decision("build", "due", tick.due, call.now + _UNREADABLE_RETRY)
        return _failed(call, record, due, f"{error}.")
    running = policy.overlap == "skip" and schedules.is_building(call.tx, armed.pipeline_arn)
    decision = at_tick(tick, state, now=call.now, running=running, policy=policy)
    if record is None or decision.outcome == "drop":
        return _dropped(call, armed, record, state, decision)
    if (record.arn, decision.scheduled_for) in batch.done:
        decision = replace(decision, outcome="skip", reason=f"{decision.reason}: that run was started before")
    if decision.outcome == "skip":
        return _skipped(call, record, decision)
    try:
        resolved = batch.resolver.resolve(record.document)
        if decision.outcome == "check":
            baseline = batch.baselines.get(record.arn)
            check = check_condition(baseline, resolved, policy=policy, tags=batch.tags)
            decision = after_check(decision, check)
        if decision.outcome == "skip":
            return _skipped(call, record, decision)
        return _started(call, record, decision, resolved, numbers=batch.numbers)
    except ApiError as error:
        return _failed(call, record, decision, error.message)


def _started(call: Call, record: Record, decision: Decision, resolved: ResolvedRun, *, numbers: Numbers) -> Fired:
    started = pipelines.prepare_pipeline_run(
        call, record, resolved,
        tags=record.document.get("imageTags", {}), build_type="SCHEDULED", numbers=numbers,
        because=("tick", _line(decision)),
    )  # fmt: skip
    return Fired(record.arn, decision, pipelines.armed_schedule(record, call.now, decision.next_fire), started)


def _skipped(call: Call, record: Record, decision: Decision) -> Fired:
    _tell(call, record, decision)
    return Fired(record.arn, decision, pipelines.armed_schedule(record, call.now, decision.next_fire))


def _failed(call: Call, record: Record, decision: Decision, why: str) -> Fired:
    """No image can be named: the run counts as a failed one (spec/pipelines.md 3)."""
    effect = count_run(call.tx, record, "FAILED", trigger="schedule", stamp=call.stamp)
    failed = replace(
        decision,
        outcome="skip",
        reason=f"{decision.reason}: no image could be started: {why} {effect.reason}",
        next_fire=None if effect.disable else decision.next_fire,
    )
    _tell(call, record, failed)
    row = pipelines.armed_schedule(record, call.now, failed.next_fire)
    return Fired(record.arn, failed, row, failed=True)


def _dropped(
    call: Call, armed: ArmedSchedule, record: Record | None, state: PipelineState | None, decision: Decision
) -> Fired:
    """The row is out of step with its document, which is the truth; an ENABLED one is armed as that says."""
    if record is None or state is None or not state.enabled or state.schedule is None:
        # an armed row of a DISABLED pipeline would be due again at once, and dropped again, for ever
        return Fired(armed.pipeline_arn, decision, None)
    # not from now: what was due since the change is missed, not gone
    since = min(max(armed.since, parse_instant(record.document["dateUpdated"])), call.now)
    following = state.schedule.next_after(since, state.anchor)
    return Fired(armed.pipeline_arn, decision, pipelines.armed_schedule(record, since, following))


def _tell(call: Call, record: Record, decision: Decision) -> None:
    settings, now = call.settings, call.now
    call.effects.append(lambda: pipeline_log.tell(settings, record, ("tick", _line(decision)), now=now))


def _line(decision: Decision) -> str:
    following = f"next run {iso_instant(decision.next_fire)}" if decision.next_fire else "no next run"
    return f"{decision.outcome}: {decision.reason}; {following}"
