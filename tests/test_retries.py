"""Attempts, pauses and ends of what is done again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.processes import Cancellation, Cancelled
from imagesmith.retries import Backoff, Failure, constant, retrying


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


@dataclass
class Flaky:
    """Fails this often, then returns how often it was called."""

    failures: int
    calls: int = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(f"failure {self.calls}")
        return self.calls


def passing(failure: Failure) -> bool:
    return isinstance(failure.error, OSError)


def test_the_first_success_is_the_value_and_pauses_double_up_to_the_longest() -> None:
    """Every failure is told with the pause that follows it; after a success nothing is."""
    clock, told = Clock(), []

    value = retrying(
        Flaky(4), retry=passing, backoff=Backoff(1.0, 5.0), sleep=clock.sleep,
        before_retry=lambda failure, pause: told.append((failure.attempt, str(failure.error), pause)),
    )  # fmt: skip

    assert value == 5
    assert clock.slept == [1.0, 2.0, 4.0, 5.0]
    assert told == [(number, f"failure {number}", clock.slept[number - 1]) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_attempt_raises_its_own_error(attempts: int) -> None:
    """No attempt beyond the limit, and no pause after the last one."""
    action, clock = Flaky(99), Clock()

    with pytest.raises(OSError, match=f"failure {attempts}$"):
        retrying(action, retry=passing, attempts=attempts, backoff=constant(1.0), sleep=clock.sleep)

    assert (action.calls, clock.slept) == (attempts, [1.0] * (attempts - 1))


def test_an_error_that_no_attempt_can_help_is_raised_at_once() -> None:
    """A refusal is not tried again."""

    def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        retrying(refuse, retry=passing, sleep=lambda _: pytest.fail("it waited"))


def test_no_attempt_begins_after_the_time_is_up() -> None:
    """A pause that would end too late is not begun."""
    action, clock = Flaky(99), Clock()

    with pytest.raises(OSError, match="failure 4"):
        retrying(
            action, retry=passing, seconds=3.5, backoff=constant(1.0), clock=lambda: clock.now, sleep=clock.sleep
        )

    assert clock.slept == [1.0] * 3


def test_what_the_other_side_asks_for_is_obeyed_up_to_the_longest_pause() -> None:
    """A wish of an hour waits as long as any pause may be."""
    clock, wishes = Clock(), {1: 0.0, 2: 7.0, 3: 3600.0}

    retrying(
        Flaky(3), retry=passing, backoff=Backoff(1.0, 60.0), sleep=clock.sleep,
        asked=lambda failure: wishes[failure.attempt],
    )  # fmt: skip

    assert clock.slept == [1.0, 7.0, 60.0]


def test_a_cancellation_ends_the_pause_and_every_attempt() -> None:
    """What is cancelled while it fails is not tried again, however long its pause."""
    cancellation = Cancellation()

    def fail() -> None:
        cancellation.cancel()
        raise OSError("away")

    with pytest.raises(Cancelled):
        retrying(fail, retry=passing, backoff=constant(3600.0), cancellation=cancellation)
    with pytest.raises(Cancelled):
        retrying(lambda: pytest.fail("it ran"), retry=passing, cancellation=cancellation)


@given(
    first=st.floats(0.0, 100.0), longest=st.floats(0.0, 1000.0), jitter=st.floats(0.0, 1.0),
    attempt=st.integers(1, 10**6), chance=st.floats(0.0, 1.0),
)  # fmt: skip
def test_a_pause_is_never_negative_nor_longer_than_the_longest(
    first: float, longest: float, jitter: float, attempt: int, chance: float
) -> None:
    """Also after a million attempts, and whatever chance takes away."""
    pause = Backoff(first, longest, jitter=jitter).pause(attempt, chance=lambda: chance)

    assert 0.0 <= pause <= longest
