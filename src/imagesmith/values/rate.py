"""Rate expressions: `rate(5 hours)` fires at anchor + k * 5 hours, k from 1 (spec/pipelines.md 2.3).

A day is 24 hours, independent of time zones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from imagesmith.values.recurrence import Recurrence, ScheduleError, require_aware

UNIT_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86400}

_PREFIX = "rate("
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Rate(Recurrence):
    """Every `count` units; `unit` is minute, hour or day."""

    expression: str
    count: int
    unit: str

    def next_after(self, moment: datetime, anchor: datetime | None = None) -> datetime | None:
        """See Recurrence. Raises ValueError without an anchor. None after the end of the calendar (year 9999)."""
        if anchor is None:
            raise ValueError(f"{self.expression} needs an anchor, and there is none")
        require_aware(moment, "moment")
        require_aware(anchor, "anchor")
        try:
            period = timedelta(seconds=self.count * UNIT_SECONDS[self.unit])
            passed = max((moment - anchor) // period, 0)
            return anchor.astimezone(UTC) + (passed + 1) * period
        except OverflowError:
            return None

    def explain(self) -> str:
        """See Recurrence."""
        each = f"Every {self.unit}" if self.count == 1 else f"Every {self.count} {self.unit}s"
        return f"{each}, counted from the moment the schedule was created or last changed."


def parse_rate(expression: str) -> Rate:
    """Read `rate(<n> <unit>)`. Raises ScheduleError."""
    inner = expression[len(_PREFIX) : -1]
    number, blank, unit = inner.partition(" ")
    if not _NUMBER.fullmatch(number):
        raise _bad_rate(0, "The rate must start with a whole number of at most 18 digits")
    count = int(number)
    if count == 0:
        raise _bad_rate(0, "The rate must be at least 1")
    at = len(number) + len(blank)
    singular = unit.removesuffix("s")
    if singular not in UNIT_SECONDS:
        raise _bad_rate(at, "The unit must be minute, minutes, hour, hours, day or days")
    wanted = singular if count == 1 else f"{singular}s"
    if unit != wanted:
        raise _bad_rate(at, f"The unit must be '{wanted}' when the value is {number}")
    return Rate(expression, count, singular)


def _bad_rate(at: int, text: str) -> ScheduleError:
    detail = f"Invalid schedule expression. Details: Invalid RATE expression: {text}."
    return ScheduleError(None, text, detail, column=len(_PREFIX) + at)
