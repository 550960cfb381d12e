"""Failures in a row and automatic disabling: every row of the specification's table."""

from __future__ import annotations

import pytest

from imagesmith.values.run_counts import Trigger, after_run, failure_limit
from imagesmith.values.states import ImageStatus


@pytest.mark.parametrize(
    ("result", "trigger", "failures", "limit", "count", "disable"),
    [
        (ImageStatus.AVAILABLE, "schedule", 4, 5, 0, False),
        (ImageStatus.AVAILABLE, "manual", 4, 5, 0, False),
        (ImageStatus.AVAILABLE, "event", 4, 5, 0, False),
        (ImageStatus.AVAILABLE, "retry", 4, 5, 0, False),
        (ImageStatus.FAILED, "schedule", 3, 5, 4, False),
        (ImageStatus.FAILED, "schedule", 4, 5, 5, True),
        (ImageStatus.FAILED, "schedule", 7, 5, 8, True),
        (ImageStatus.FAILED, "schedule", 0, 1, 1, True),
        (ImageStatus.FAILED, "schedule", 9, None, 10, False),
        (ImageStatus.FAILED, "manual", 4, 5, 4, False),
        (ImageStatus.FAILED, "event", 4, 5, 4, False),
        (ImageStatus.FAILED, "retry", 4, 5, 4, False),
        (ImageStatus.CANCELLED, "schedule", 4, 5, 4, False),
        (ImageStatus.CANCELLED, "manual", 4, 5, 4, False),
    ],
)
def test_the_end_of_a_run_counts_as_the_table_says(
    result: ImageStatus, trigger: Trigger, failures: int, limit: int | None, count: int, disable: bool
) -> None:
    """Scheduled failures count up and disable at the limit, any success counts down to 0, the rest is neutral."""
    effect = after_run(failures, result, trigger=trigger, enabled=True, limit=limit)
    assert (effect.consecutive_failures, effect.disable) == (count, disable)


def test_a_disabled_pipeline_is_not_disabled_twice() -> None:
    """A second concurrent failure after the disabling counts, but sends no second event."""
    first = after_run(4, ImageStatus.FAILED, trigger="schedule", enabled=True, limit=5)
    second = after_run(first.consecutive_failures, ImageStatus.FAILED, trigger="schedule", enabled=False, limit=5)
    assert first.reason == "consecutive failures: 5: the pipeline is disabled (limit 5)"
    assert (second.consecutive_failures, second.disable) == (6, False)


def test_the_limit_is_the_policys_else_five() -> None:
    """autoDisablePolicy.failureCount wins, a schedule without policy has 5, no schedule no limit."""
    assert failure_limit(2, has_schedule=True) == 2
    assert failure_limit(None, has_schedule=True) == 5
    assert failure_limit(None, has_schedule=False) is None
