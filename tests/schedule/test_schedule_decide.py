"""Ticks, the start condition, arming, and the count of failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.schedule.decide import (
    Check,
    Decision,
    Dependency,
    Inputs,
    PipelineState,
    Tick,
    after_check,
    at_tick,
    check_dependencies,
    newest_due,
    next_fire,
)
from imagesmith.settings import Schedules
from imagesmith.values.schedule import parse_schedule

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAILY = PipelineState(
    enabled=True,
    schedule=parse_schedule("cron(0 12 * * ? *)"),
    schedule_version=3,
    anchor=NOON - 30 * HOUR,
    condition="EXPRESSION_MATCH_ONLY",
)
TICK = Tick(NOON, 3)
BASE = "arn:aws:imagebuilder:us-east-1:aws:image/debian-12"
RECIPE = "arn:aws:imagebuilder:us-east-1:111122223333:image-recipe/web/1.0.0"


def decide(
    pipeline: PipelineState | None = DAILY,
    *,
    now: datetime = NOON,
    running: bool = False,
    policy: Schedules = Schedules(),  # noqa: B008
    tick: Tick = TICK,
) -> Decision:
    return at_tick(tick, pipeline, now=now, running=running, policy=policy)


def test_a_tick_on_time_builds_and_arms_the_next() -> None:
    """EXPRESSION_MATCH_ONLY builds for the scheduled instant and names the next one."""
    decision = decide(now=NOON + timedelta(seconds=2))
    assert decision == Decision("build", "scheduled for 2026-01-01T12:00:00Z", NOON, NOON + 24 * HOUR)


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        (None, "the pipeline is gone"),
        (replace(DAILY, enabled=False), "the pipeline is DISABLED"),
        (replace(DAILY, schedule=None), "the pipeline has no schedule"),
        (replace(DAILY, schedule_version=4), "the schedule was changed after this tick was armed"),
    ],
)
def test_a_tick_of_another_time_is_dropped(pipeline: PipelineState | None, reason: str) -> None:
    """A pipeline deleted, disabled, made manual or re-armed since makes the tick void, and arms nothing."""
    assert decide(pipeline) == Decision("drop", reason)


def test_a_clock_that_went_back_waits() -> None:
    """A tick that lies in the future is neither run nor moved."""
    assert decide(now=NOON - HOUR) == Decision("wait", "not due before 2026-01-01T12:00:00Z", next_fire=NOON)


def test_a_missed_tick_within_the_grace_is_caught_up_once() -> None:
    """Of several missed ticks the newest runs, and the next is a later one."""
    decision = decide(now=NOON + timedelta(days=3, minutes=59))
    assert (decision.outcome, decision.scheduled_for) == ("build", NOON + timedelta(days=3))
    assert decision.next_fire == NOON + timedelta(days=4)
    assert decision.reason == (
        "scheduled for 2026-01-04T12:00:00Z, one run for every tick since 2026-01-01T12:00:00Z"
    )


def test_a_missed_tick_beyond_the_grace_is_skipped() -> None:
    """One second more than the grace and nothing runs, but the next tick is armed."""
    assert decide(now=NOON + HOUR).outcome == "build"
    decision = decide(now=NOON + HOUR + timedelta(seconds=1))
    assert (decision.outcome, decision.next_fire) == ("skip", NOON + 24 * HOUR)
    assert decision.reason == "missed the tick of 2026-01-01T12:00:00Z by 1 h 1 s, more than the grace of 1 h"
    longer = Schedules(misfire_grace_seconds=7200)
    assert decide(now=NOON + HOUR + timedelta(seconds=1), policy=longer).outcome == "build"


def test_a_schedule_that_ends_arms_nothing() -> None:
    """After its last fire time a pipeline has no next one."""
    last = replace(DAILY, schedule=parse_schedule("cron(0 12 1 1 ? 2026)"))
    assert decide(last) == Decision("build", "scheduled for 2026-01-01T12:00:00Z", NOON, None)


def test_overlap_is_allowed_unless_told_otherwise() -> None:
    """A running build holds a tick back only with overlap = skip, and never without a running build."""
    skip = Schedules(overlap="skip")
    assert decide(running=True).outcome == "build"
    assert decide(policy=skip).outcome == "build"
    held = decide(running=True, policy=skip)
    assert (held.outcome, held.next_fire) == ("skip", NOON + 24 * HOUR)
    assert held.reason == "a build of this pipeline is still running (overlap = skip)"


def test_the_default_condition_asks_for_a_check() -> None:
    """With the dependency condition the tick alone decides nothing; the check does, and its reason is told."""
    decision = decide(replace(DAILY, condition="EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"))
    assert decision.outcome == "check"
    skipped = after_check(decision, Check(False, "no dependency has an update"))
    assert (skipped.outcome, skipped.next_fire) == ("skip", NOON + 24 * HOUR)
    assert skipped.reason == "scheduled for 2026-01-01T12:00:00Z: no dependency has an update"


def inputs(base: str) -> Inputs:
    return Inputs(RECIPE, (Dependency("base", f"{BASE}/x.x.x", f"{BASE}/{base}"),))


def test_the_check_tells_what_moved() -> None:
    """No AVAILABLE image builds; an update builds and is named; no update does not build."""
    policy = Schedules()
    first = check_dependencies(None, inputs("1.0.3/2"), policy=policy)
    moved = check_dependencies(inputs("1.0.3/2"), inputs("1.0.4/1"), policy=policy)
    same = check_dependencies(inputs("1.0.3/2"), inputs("1.0.3/2"), policy=policy)
    assert (first.build, first.reason) == (True, "no image of this pipeline is AVAILABLE yet")
    assert (moved.build, moved.reason) == (True, "base debian-12 1.0.3/2 -> 1.0.4/1")
    assert (same.build, same.reason, same.changes) == (False, "no dependency has an update", ())
    started = after_check(decide(), moved)
    assert (started.outcome, started.changes) == ("build", moved.changes)


def test_the_switch_for_tags_reaches_the_check() -> None:
    """`container_tag_updates` of the settings decides whether a moved tag builds."""
    before, after = (
        Inputs(RECIPE, (Dependency("base", "debian:12", f"sha256:{digit * 64}"),)) for digit in ("a", "b")
    )
    assert not check_dependencies(before, after, policy=Schedules()).build
    assert check_dependencies(before, after, policy=Schedules(container_tag_updates=True)).build


def test_arming_needs_an_enabled_pipeline_with_a_schedule() -> None:
    """DISABLED or manual pipelines have no next run; a clock that went back brings no instant again."""
    assert next_fire(replace(DAILY, enabled=False), now=NOON) is None
    assert next_fire(replace(DAILY, schedule=None), now=NOON) is None
    assert next_fire(DAILY, now=NOON - HOUR) == NOON
    assert next_fire(DAILY, now=NOON - HOUR, last=NOON) == NOON + 24 * HOUR


@given(
    st.sampled_from(["cron(* * * * ? *)", "cron(*/7 3-5 ? * mon *)", "cron(0 0 1 1 ? *)", "rate(7 minutes)"]),
    st.integers(0, 3 * 10**7),
)
def test_the_newest_missed_tick_is_the_last_one_before_now(expression: str, seconds: int) -> None:
    """Halving finds the instant after which the next one lies beyond now."""
    schedule = parse_schedule(expression, "Europe/Berlin")
    due = schedule.next_after(NOON, NOON)
    assert due is not None
    now = due + timedelta(seconds=seconds)
    newest = newest_due(schedule, due, now=now, anchor=NOON)
    following = schedule.next_after(newest, NOON)
    assert due <= newest <= now
    assert following is not None and following > now
    assert newest == due or schedule.next_after(newest - timedelta(microseconds=1), NOON) == newest


@given(
    st.sampled_from(["cron(0 * * * ? *)", "cron(*/10 8-18 ? * mon-fri *)", "rate(45 minutes)"]),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5000)), min_size=1, max_size=15),
)
@settings(max_examples=60, deadline=None)
def test_a_life_with_outages_runs_each_tick_once(expression: str, outages: list[tuple[int, int]]) -> None:
    """Up times run every tick, each outage runs at most one, no instant runs twice, and the order is kept."""
    pipeline = replace(DAILY, schedule=parse_schedule(expression, "Europe/Berlin"))
    start = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)
    armed, now, runs = next_fire(pipeline, now=start), start, []
    down: list[tuple[datetime, datetime]] = []
    for ticks, outage in outages:
        for _ in range(ticks):
            assert armed is not None
            now = max(now, armed)
            decision = decide(pipeline, now=now, tick=Tick(armed, 3))
            if decision.outcome == "build":
                assert decision.scheduled_for is not None
                runs.append(decision.scheduled_for)
            armed = decision.next_fire
            assert armed is not None and armed > now
        down.append((now, now + timedelta(minutes=outage)))
        now = down[-1][1]
    assert runs == sorted(set(runs))
    assert pipeline.schedule is not None
    tick = pipeline.schedule.next_after(start, pipeline.anchor)
    while runs and tick is not None and tick <= runs[-1]:
        assert tick in runs or any(since < tick <= until for since, until in down)
        tick = pipeline.schedule.next_after(tick, pipeline.anchor)
    assert all(sum(since < run <= until for run in runs) <= 1 for since, until in down)
