"""Retries of a failed action: how often, for how long, and how long to wait between the attempts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from imagesmith.processes import Cancellation

Value = TypeVar("Value")

_LARGEST_EXPONENT: Final = 64


@dataclass(frozen=True)
class Backoff:
    """Pauses in seconds that grow from the first to the longest."""

    first: float = 0.0
    longest: float = float("inf")
    factor: float = 2.0
    jitter: float = 0.0
    """The largest share of a pause that is randomly removed, so that simultaneous failures are retried apart."""

    def pause(self, attempt: int, *, asked: float = 0.0, chance: Callable[[], float] = lambda: 0.0) -> float:
        """The pause after a failed attempt, counted from 1.

        `asked`: the pause that the other side requests, which is bounded too; `chance` returns numbers from 0 to 1.
        """
        grown = self.first * self.factor ** min(attempt - 1, _LARGEST_EXPONENT)
        return min(max(grown, asked), self.longest) * (1.0 - self.jitter * chance())


def constant(seconds: float) -> Backoff:
    """The same pause after each attempt."""
    return Backoff(seconds, factor=1.0)


_NO_PAUSE: Final = constant(0.0)


@dataclass(frozen=True)
class Failure:
    """An attempt that failed; the first is number 1."""

    attempt: int
    error: Exception


def retrying(
    action: Callable[[], Value],
    *,
    retry: Callable[[Failure], bool],
    attempts: int | None = None,
    seconds: float | None = None,
    backoff: Backoff = _NO_PAUSE,
    asked: Callable[[Failure], float] = lambda _: 0.0,
    before_retry: Callable[[Failure, float], None] = lambda _failure, _pause: None,
    cancellation: Cancellation | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Value:
    """Returns the value of the first attempt that succeeds. Raises the error of the last attempt, and Cancelled.

    `retry` returns whether another attempt may help. At most `attempts` are made, and none that would start more
    than `seconds` after the first; without both bounds it retries for ever. `asked`: seconds that the other side
    requests between attempts. `before_retry` receives the pause that follows. A requested cancellation ends a
    pause.
    """
    until = None if seconds is None else clock() + seconds
    for attempt in count(1):
        if cancellation is not None:
            cancellation.check()
        try:
            return action()
        except Exception as error:
            failure = Failure(attempt, error)
            if attempt == attempts or not retry(failure):
                raise
            pause = backoff.pause(attempt, asked=asked(failure), chance=chance)
            if until is not None and clock() + pause > until:
                raise
        before_retry(failure, pause)
        if cancellation is not None:
            cancellation.wait(pause)
        elif pause:
            sleep(pause)
    raise AssertionError("unreachable")
