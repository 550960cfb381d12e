"""What the end of a run means for its pipeline: failures in a row and automatic disabling (spec/pipelines.md 6).

| run       | AVAILABLE | FAILED                          | CANCELLED |
|-----------|-----------|---------------------------------|-----------|
| schedule  | 0         | +1; at the limit: DISABLED      | unchanged |
| any other | 0         | unchanged                       | unchanged |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Trigger = Literal["schedule", "manual", "event", "retry"]
Result = Literal["AVAILABLE", "FAILED", "CANCELLED"]

DEFAULT_FAILURE_LIMIT: Final = 5


@dataclass(frozen=True)
class RunEffect:
    """What the end of a run does to its pipeline."""

    consecutive_failures: int
    disable: bool
    """Set the status to DISABLED, disarm the schedule and send the event."""
    reason: str
    """A line of the pipeline log."""


def failure_limit(failure_count: int | None, *, has_schedule: bool) -> int | None:
    """How many failures in a row disable a pipeline: its autoDisablePolicy, else 5; None without a schedule."""
    if failure_count is not None:
        return failure_count
    return DEFAULT_FAILURE_LIMIT if has_schedule else None


def after_run(failures: int, result: Result, *, trigger: Trigger, enabled: bool, limit: int | None) -> RunEffect:
    """Count a run at its end. `failures` and `enabled` are the pipeline's at this moment.

    Only runs of the schedule count failures; any success ends the row, that of a retried image too.
    """
    if result == "AVAILABLE":
        return RunEffect(0, False, "consecutive failures: 0")
    if result == "CANCELLED" or trigger != "schedule":
        kind = "an event" if trigger == "event" else f"a {trigger}"
        return RunEffect(failures, False, f"consecutive failures stay {failures}: {kind} run, {result}")
    failures += 1
    told = f"consecutive failures: {failures}"
    if not enabled or limit is None or failures < limit:
        return RunEffect(failures, False, told)
    return RunEffect(failures, True, f"{told}: the pipeline is disabled (limit {limit})")
