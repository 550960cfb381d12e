"""The six fields of an AWS cron expression: names, ranges, and sets of values as bit masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imagesmith.values.cron_days import FIRST_YEAR, LAST_YEAR, DayRule

MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class CronField:
    """One of the six fields of a cron expression, and the values it takes."""

    label: str
    """Its name in error texts."""
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of the values, the lowest first."""
    wraps: bool = False
    """Whether a range may run past the highest value."""
    zero: int = 0
    """The value of bit 0 of the mask."""

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    def mask(self, first: int, last: int, step: int) -> int:
        """The values from first to last; `last` may exceed `high` by a lap for a range that wraps around."""
        bits = 0
        for value in range(first, last + 1, step):
            bits |= 1 << ((value - self.low) % self.size + self.low - self.zero)
        return bits

    @property
    def every(self) -> int:
        return ((1 << self.size) - 1) << (self.low - self.zero)


MINUTE: Final = CronField("Minute", 0, 59, wraps=True)
HOUR: Final = CronField("Hour", 0, 23, wraps=True)
DAY: Final = CronField("Day of month", 1, 31)
MONTH: Final = CronField("Month", 1, 12, MONTH_NAMES, wraps=True)
WEEKDAY: Final = CronField("Day-of-Week", 1, 7, WEEKDAY_NAMES, wraps=True)
YEAR: Final = CronField("Year", FIRST_YEAR, LAST_YEAR, zero=FIRST_YEAR)

EVERY_MINUTE: Final = MINUTE.every
EVERY_HOUR: Final = HOUR.every
EVERY_DAY: Final = DAY.every
EVERY_MONTH: Final = MONTH.every
EVERY_WEEKDAY: Final = WEEKDAY.every
EVERY_YEAR: Final = YEAR.every


@dataclass(frozen=True, slots=True)
class CronFields:
    """A parsed expression: bit masks by value (years: bit y - 1970), and the rule of the one day field."""

    minutes: int
    hours: int
    day_rule: DayRule
    months: int
    years: int
