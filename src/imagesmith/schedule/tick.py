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

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from imagesmith.resources import pipelines
from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError
from imagesmith.resources.runs import ResolvedRun, resolve_run
from imagesmith.schedule.decide import Decision, PipelineState, Tick, after_check, at_tick
from imagesmith.schedule.start_condition import check_condition
from imagesmith.store import queries, schedules
from imagesmith.store.records import Record
from imagesmith.store.schedules import ArmedSchedule
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.schedule import UnknownZone, parse_schedule
from imagesmith.workflows import pipeline_log
from imagesmith.workflows.records import count_run

_UNREADABLE_RETRY = timedelta(days=1)
"""When a schedule whose zone is missing from the zone database is looked at again."""


@dataclass(frozen=True)
class Fired:
    """What became of a due pipeline."""

    pipeline_arn: str
    decision: Decision
    image_arn: str = ""


def pipeline_state(record: Record) -> PipelineState:
    """What decide needs of a stored pipeline. Raises UnknownZone when the zone database lost its zone."""
    document = record.document
    schedule = document.get("schedule")
    if schedule is None:
        return PipelineState(document["status"] == "ENABLED", None, 0, record.created)
    return PipelineState(
        enabled=document["status"] == "ENABLED",
        # whatever was accepted once stays readable when the switch for lenient expressions is turned off
        schedule=parse_schedule(schedule["scheduleExpression"], schedule["timezone"], lenient=True),
        schedule_version=int(document.get(pipelines.VERSION, 0)),
        anchor=parse_instant(document[pipelines.ANCHOR]),
        condition=schedule["pipelineExecutionStartCondition"],
    )


def fire(call: Call, armed: ArmedSchedule) -> Fired:
    """Carry out the tick of a pipeline whose row is due and whose scope is locked by `call`."""
    record = queries.get(call.tx, armed.pipeline_arn)
    policy = call.settings.schedules
    try:
        state = None if record is None else pipeline_state(record)
    except UnknownZone as error:
        assert record is not None
        retry = Decision(
            "build", f"scheduled for {iso_instant(armed.next_fire)}", armed.next_fire, call.now + _UNREADABLE_RETRY
        )
        return _failed(call, record, retry, f"{error}")
    running = policy.overlap == "skip" and schedules.is_building(call.tx, armed.pipeline_arn)
    decision = at_tick(Tick(armed.next_fire, armed.version), state, now=call.now, running=running, policy=policy)
    if record is None or decision.outcome == "drop":
        return _dropped(call, armed, record, decision)
    instant = decision.scheduled_for
    if instant is not None and schedules.was_run(call.tx, record.arn, instant):
        decision = replace(decision, outcome="skip", reason=f"the run of {iso_instant(instant)} was started before")
    if decision.outcome == "skip":
        return _skipped(call, record, decision)
    try:
        resolved = resolve_run(call, record.document)
    except ApiError as error:
        return _failed(call, record, decision, error.message)
    if decision.outcome == "check":
        check = check_condition(call.tx, record, resolved, policy=policy)
        decision = after_check(decision, check)
        if decision.outcome == "skip":
            return _skipped(call, record, decision)
    return _started(call, record, decision, resolved)


def _started(call: Call, record: Record, decision: Decision, resolved: ResolvedRun) -> Fired:
    record = _with_next(record, decision.next_fire)
    _tell(call, record, decision)
    image = pipelines.start_pipeline_run(
        call, record, tags=record.document.get("imageTags", {}), build_type="SCHEDULED", resolved=resolved
    )
    _note(call, record, decision, image.arn)
    _arm_next(call, record)
    return Fired(record.arn, decision, image.arn)


def _skipped(call: Call, record: Record, decision: Decision) -> Fired:
    record = _with_next(record, decision.next_fire)
    queries.replace(call.tx, record)
    _arm_next(call, record)
    _tell(call, record, decision)
    return Fired(record.arn, decision)


def _failed(call: Call, record: Record, decision: Decision, why: str) -> Fired:
    """No image can be named: the run counts as a failed one (spec/pipelines.md 3)."""
    record = _with_next(record, decision.next_fire)
    queries.replace(call.tx, record)
    _arm_next(call, record)
    effect = count_run(call.tx, record, "FAILED", trigger="schedule", stamp=call.stamp)
    _note(call, record, decision, "")
    failed = replace(
        decision,
        outcome="skip",
        reason=f"{decision.reason}: no image could be started: {why} {effect.reason}",
        next_fire=None if effect.disable else decision.next_fire,
    )
    _tell(call, record, failed)
    return Fired(record.arn, failed)


def _dropped(call: Call, armed: ArmedSchedule, record: Record | None, decision: Decision) -> Fired:
    """The row is out of step with its document, which is the truth."""
    row = None if record is None else pipelines.armed_schedule(record, call.now)
    if row is None or record is None or record.document["status"] != "ENABLED":
        schedules.disarm(call.tx, armed.pipeline_arn)
    else:
        schedules.arm(call.tx, row)
    return Fired(armed.pipeline_arn, decision)


def _with_next(record: Record, following: datetime | None) -> Record:
    return replace(record, document=pipelines.with_next_run(record.document, following))


def _arm_next(call: Call, record: Record) -> None:
    row = pipelines.armed_schedule(record, call.now)
    if row is None:
        schedules.disarm(call.tx, record.arn)
    else:
        schedules.arm(call.tx, row)


def _note(call: Call, record: Record, decision: Decision, image_arn: str) -> None:
    assert decision.scheduled_for is not None
    schedules.note_run(call.tx, record.arn, decision.scheduled_for, image_arn)


def _tell(call: Call, record: Record, decision: Decision) -> None:
    following = f"next run {iso_instant(decision.next_fire)}" if decision.next_fire else "no next run"
    text = f"{decision.outcome}: {decision.reason}; {following}"
    logs, now = call.settings.data_dir / "logs", call.now
    call.effects.append(lambda: pipeline_log.tell(logs, record.arn, "tick", text, now=now))
