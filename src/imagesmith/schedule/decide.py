"""Decides what a tick does: pure functions of plain data.

    tick --> drop    the pipeline is gone, DISABLED, or armed for another schedule by now
         |-> wait    not due yet: the clock went back
         |-> skip    missed by more than the grace, or a build is still running and overlap is "skip"
         |-> build   EXPRESSION_MATCH_ONLY
         \\-> check --> build   nothing built yet, or a dependency changed
                   \\-> skip    no dependency changed

One decision covers any number of missed ticks: the newest missed tick runs (spec/pipelines.md 3, 4, 7). This module
reads neither a clock nor a store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from imagesmith.schedule.dependencies import Change, Dependency, Inputs, changed_dependencies, resolves_to
from imagesmith.settings import Schedules
from imagesmith.values.schedule import Schedule

__all__ = [
    "Change",
    "Check",
    "Decision",
    "Dependency",
    "Inputs",
    "PipelineState",
    "Tick",
    "after_check",
    "at_tick",
    "changed_dependencies",
    "check_dependencies",
    "newest_due",
    "next_fire",
    "resolves_to",
]

StartCondition = Literal["EXPRESSION_MATCH_ONLY", "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"]
Outcome = Literal["drop", "wait", "skip", "check", "build"]

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Tick:
    """An armed fire time, and the version of its schedule."""

    due: datetime
    schedule_version: int


@dataclass(frozen=True)
class PipelineState:
    """The current state of a pipeline, as far as decisions need it."""

    enabled: bool
    schedule: Schedule | None
    schedule_version: int
    """Grows with every change of the schedule or the status."""
    anchor: datetime
    """When the schedule was created or last changed; rates count from it."""
    condition: StartCondition = "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"


@dataclass(frozen=True)
class Decision:
    """The decision about a tick. `reason` is a line of the pipeline log."""

    outcome: Outcome
    reason: str
    scheduled_for: datetime | None = None
    """The instant of the run: pipeline and instant identify the run, whichever server starts it."""
    next_fire: datetime | None = None
    """The next fire time to arm, also without a run; None when the schedule has ended."""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Check:
    """Whether the dependency condition permits a build, and why."""

    build: bool
    reason: str
    changes: tuple[Change, ...] = ()


def at_tick(
    tick: Tick, pipeline: PipelineState | None, *, now: datetime, running: bool, policy: Schedules
) -> Decision:
    """Decide about a tick; `running`: a build of this pipeline has not ended yet."""
    if pipeline is None:
        return Decision("drop", "the pipeline is gone")
    if not pipeline.enabled or pipeline.schedule is None:
        return Decision("drop", "the pipeline has no schedule" if pipeline.enabled else "the pipeline is DISABLED")
    if pipeline.schedule_version != tick.schedule_version:
        return Decision("drop", "the schedule was changed after this tick was armed")
    if tick.due > now:
        return Decision("wait", f"not due before {_format_instant(tick.due)}", next_fire=tick.due)
    newest = newest_due(pipeline.schedule, tick.due, now=now, anchor=pipeline.anchor)
    following = next_fire(pipeline, now=now, last=newest)
    late = now - newest
    if late > timedelta(seconds=policy.misfire_grace_seconds):
        reason = (
            f"missed the tick of {_format_instant(newest)} by {_span(late)}, "
            f"more than the grace of {_span(timedelta(seconds=policy.misfire_grace_seconds))}"
        )
        return Decision("skip", reason, newest, following)
    if running and policy.overlap == "skip":
        return Decision("skip", "a build of this pipeline is still running (overlap = skip)", newest, following)
    reason = f"scheduled for {_format_instant(newest)}"
    if newest > tick.due:
        reason += f", one run for every tick since {_format_instant(tick.due)}"
    outcome: Outcome = "build" if pipeline.condition == "EXPRESSION_MATCH_ONLY" else "check"
    return Decision(outcome, reason, newest, following)


def check_dependencies(baseline: Inputs | None, current: Inputs, *, policy: Schedules) -> Check:
    """Apply the dependency condition; `baseline`: the inputs of the newest image that reached AVAILABLE."""
    if baseline is None:
        return Check(True, "no image of this pipeline is AVAILABLE yet")
    changes = changed_dependencies(baseline, current, container_tag_updates=policy.container_tag_updates)
    if not changes:
        return Check(False, "no dependency has an update")
    return Check(True, "; ".join(map(str, changes)), changes)


def after_check(decision: Decision, check: Check) -> Decision:
    """Complete a decision whose outcome is "check"."""
    return replace(
        decision,
        outcome="build" if check.build else "skip",
        reason=f"{decision.reason}: {check.reason}",
        changes=check.changes,
    )


def next_fire(pipeline: PipelineState, *, now: datetime, last: datetime | None = None) -> datetime | None:
    """The instant to arm; None for a DISABLED pipeline, without a schedule, and for one that never fires again.

    `last` is the newest instant that was run or skipped: it does not repeat after the clock went back.
    """
    if not pipeline.enabled or pipeline.schedule is None:
        return None
    return pipeline.schedule.next_after(now if last is None else max(now, last), pipeline.anchor)


def newest_due(schedule: Schedule, due: datetime, *, now: datetime, anchor: datetime) -> datetime:
    """The last fire time not after `now`, from `due` on: by bisection, because a year may have been missed."""
    newest, unknown = due, now
    while unknown - newest >= _SECOND:
        middle = newest + (unknown - newest) / 2
        following = schedule.next_after(middle, anchor)
        if following is not None and following <= now:
            newest = following
        else:
            unknown = middle
    return newest


def _format_instant(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(length: timedelta) -> str:
    """`2 d 3 h`, `5 min`, `12 s`: the two largest units."""
    seconds = int(length.total_seconds())
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"
