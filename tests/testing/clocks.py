"""A clock that tests set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class MovingClock:
    """A clock that tests set; every reading is a millisecond later, so that dates differ."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)
