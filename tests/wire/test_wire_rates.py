"""Token buckets: counted per account and operation, on an injected clock, within bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagesmith.settings import RateLimit
from imagesmith.wire.rates import RateLimits
from support import MovingClock


def test_a_bucket_is_per_account_and_operation() -> None:
    """Each account has its own, an operation's own entry wins over `*`, and others are not limited."""
    clock = MovingClock()
    rates = RateLimits({"Get": RateLimit(0.5, 2), "*": RateLimit(1, 1)}, clock=clock)
    assert [rates.take("1", "Get") for _ in range(3)] == [0, 0, 2]
    assert rates.take("2", "Get") == 0
    assert [rates.take("1", "List") for _ in range(2)] == [0, 1]
    clock.advance(seconds=2)
    assert [rates.take("1", "Get") for _ in range(2)] == [0, 2]
    assert RateLimits({"Get": RateLimit(1, 1)}, clock=clock).take("1", "List") == 0


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    """The bucket goes on from the new time."""
    clock = MovingClock()
    rates = RateLimits({"*": RateLimit(1, 3)}, clock=clock)
    assert rates.take("1", "Get") == 0
    clock.advance(hours=-1)
    assert [rates.take("1", "Get") for _ in range(3)] == [0, 0, 1]


def test_buckets_are_bounded() -> None:
    """The one that was not used for longest is forgotten first."""
    rates = RateLimits({"*": RateLimit(0.001, 1)}, clock=MovingClock(), most=10)
    for number in range(100):
        assert rates.take(str(number), "Get") == 0
    assert len(rates) == 10
    assert rates.take("99", "Get") > 0
    assert rates.take("0", "Get") == 0


@given(
    rate=st.floats(0.1, 100), burst=st.integers(1, 20), pauses=st.lists(st.floats(0, 5), min_size=1, max_size=60)
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    """Over any time at most burst + rate * time requests pass, and one passes after the wait that was told."""
    clock = MovingClock()
    rates = RateLimits({"*": RateLimit(rate, burst)}, clock=clock)
    start, passed, wait = clock.now, 0, 0
    for pause in pauses:
        clock.advance(seconds=pause)
        wait = rates.take("1", "Get")
        passed += wait == 0
    assert passed <= burst + rate * (clock.now - start).total_seconds() + 1e-6
    if wait:
        clock.advance(seconds=wait)
        assert rates.take("1", "Get") == 0
