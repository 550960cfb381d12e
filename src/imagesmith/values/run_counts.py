"""Effects of the end of a run on its pipeline: consecutive failures and disabling (spec/pipelines.md 6).

| run       | AVAILABLE | FAILED                          | CANCELLED |
|-----------|-----------|---------------------------------|-----------|
| schedule  | 0         | +1; at the limit: DISABLED      | unchanged |
| any other | 0         | unchanged                       | unchanged |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from imagesmith.values.states import ImageStatus

Trigger = Literal["schedule", "manual", "event", "retry"]

DEFAULT_FAILURE_LIMIT: Final = 5


@dataclass(frozen=True)
class RunEffect:
    """The effect of the end of a run on its pipeline."""

    consecutive_failures: int
    disable: bool
    """Set the status to DISABLED, disarm the schedule and send the event."""
    reason: str
    """A line of the pipeline log."""


def failure_limit(failure_count: int | None, *, has_schedule: bool) -> int | None:
    """Consecutive failures that disable a pipeline: its autoDisablePolicy, else 5; None without a schedule."""
    if failure_count is not None:
        return failure_count
    return DEFAULT_FAILURE_LIMIT if has_schedule else None


def after_run(
    failures: int, result: ImageStatus, *, trigger: Trigger, enabled: bool, limit: int | None
) -> RunEffect:
    """Count a run at its end. `failures` and `enabled` are the pipeline's current values.

    Only runs of the schedule count failures; any success resets the count, even of a retried image.
    """
    if result == ImageStatus.AVAILABLE:
        return RunEffect(0, False, "consecutive failures: 0")
    if result == ImageStatus.CANCELLED or trigger != "schedule":
        kind = "an event" if trigger == "event" else f"a {trigger}"
        return RunEffect(failures, False, f"consecutive failures stay {failures}: {kind} run, {result}")
    failures += 1
    reason = f"consecutive failures: {failures}"
    if not enabled or limit is None or failures < limit:
        return RunEffect(failures, False, reason)
    return RunEffect(failures, True, f"{reason}: the pipeline is disabled (limit {limit})")
