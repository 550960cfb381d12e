"""Attempts of a piece of work: how often it is begun, and what becomes of each way in which it can end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.builds.attempts import ATTEMPTS, Attempt, attempt
from imagesmith.builds.instances import InstanceGone
from imagesmith.processes import Cancelled


class Trial:
    """One attempt with callbacks that note what was called."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def run(self, work: Callable[[], str], made: Attempt, *, repeatable: bool = True, losable: bool = True) -> str:
        return attempt(
            work, made, "during Work",
            on_line=self.notes.append,
            take_back=lambda: self.notes.append("taken back"),
            refused=lambda reason: f"refused: {reason}",
            failed=lambda error: f"failed: {error}",
            lost=(lambda orderly: f"lost, orderly: {orderly}") if losable else None,
            repeatable=repeatable,
        )  # fmt: skip


def done() -> str:
    return "done"


def raising(error: BaseException) -> Callable[[], str]:
    def work() -> str:
        raise error

    return work


@pytest.mark.parametrize(
    ("made", "repeatable", "expected", "notes"),
    [
        (Attempt(1), True, "done", []),
        (Attempt(1), False, "done", []),
        (Attempt(2), True, "done", ["the server stopped during Work; attempt 2 begins"]),
        (Attempt(3), True, "done", ["the server stopped during Work; attempt 3 begins"]),
        (Attempt(2), False, "lost, orderly: False", []),
        (Attempt(2, stopped=1), False, "lost, orderly: True", []),
        (Attempt(3, stopped=1), False, "lost, orderly: False", []),
        (Attempt(4), True, "refused: the server died 3 times during Work; it is not retried", []),
        (Attempt(4), False, "refused: the server died 3 times during Work; it is not retried", []),
        (Attempt(4, stopped=1), True, "done", ["the server stopped during Work; attempt 4 begins"]),
        (Attempt(9, stopped=8), True, "done", ["the server stopped during Work; attempt 9 begins"]),
    ],
)
def test_what_an_attempt_does_depends_on_those_before(
    made: Attempt, repeatable: bool, expected: str, notes: list[str]
) -> None:
    """Deaths are bounded, orderly stops are not; work on an instance that was cut off is lost."""
    trial = Trial()
    assert trial.run(done, made, repeatable=repeatable) == expected
    assert trial.notes == notes


def test_a_cancelled_attempt_is_taken_back() -> None:
    """An orderly stop uses up none of the attempts."""
    trial = Trial()
    with pytest.raises(Cancelled):
        trial.run(raising(Cancelled()), Attempt(1))
    assert trial.notes == ["taken back"]


def test_an_instance_that_is_gone_loses_the_attempt() -> None:
    """Where the work has no instance to lose, that is a failure as any other."""
    assert Trial().run(raising(InstanceGone("i-1")), Attempt(1)) == "lost, orderly: False"
    assert Trial().run(raising(InstanceGone("i-1")), Attempt(1), losable=False) == "failed: i-1"
    assert Trial().run(raising(OSError("disk")), Attempt(1)) == "failed: disk"


@given(st.lists(st.booleans(), max_size=12))
def test_work_begins_until_its_process_died_three_times(ends: list[bool]) -> None:
    """Whatever the order of deaths (True) and orderly stops (False): the third death is the last."""
    number, stopped = 1, 0
    for died in ends:
        begun = Trial().run(done, Attempt(number, stopped)) == "done"
        assert begun == (ends[: number - 1].count(True) < ATTEMPTS)
        number, stopped = number + 1, stopped + (not died)
