"""Time limits over several steps."""

from __future__ import annotations

import pytest

from imagesmith import processes
from imagesmith.builds.deadline import DeadlinePassed, limited
from imagesmith.processes import Cancellation, Cancelled


def test_a_limit_ends_a_running_program() -> None:
    """The program is killed and the limit is what is reported."""
    with pytest.raises(DeadlinePassed), limited(Cancellation(), 0.3) as inner:
        processes.run(["sleep", "60"], cancellation=inner)


def test_a_cancel_from_outside_stays_a_cancel() -> None:
    """Work that was cancelled did not run out of time."""
    outer = Cancellation()
    with pytest.raises(Cancelled), limited(outer, 60) as inner:
        outer.cancel()
        processes.run(["sleep", "60"], cancellation=inner)


def test_work_within_its_limit_is_left_alone() -> None:
    """Nothing is cancelled afterwards."""
    with limited(Cancellation(), 60) as inner:
        assert processes.run(["true"], cancellation=inner).returncode == 0
    assert not inner.requested
