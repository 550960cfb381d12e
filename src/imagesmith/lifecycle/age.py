"""Ages in the units of lifecycle rules: days and weeks by hours, months and years by the calendar. Pure."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Unit = Literal["DAYS", "WEEKS", "MONTHS", "YEARS"]


@dataclass(frozen=True)
class Age:
    """An age of `value` units."""

    value: int
    unit: Unit

    def after(self, moment: datetime) -> datetime:
        """The instant at which something of `moment` has this age, in UTC; 31 January plus a month is 28 February.

        An instant after the last year that a datetime has is the last one.
        """
        if self.unit in ("DAYS", "WEEKS"):
            return moment + timedelta(days=self.value * (7 if self.unit == "WEEKS" else 1))
        months = moment.month - 1 + self.value * (12 if self.unit == "YEARS" else 1)
        year, month = moment.year + months // 12, months % 12 + 1
        if year > datetime.max.year:
            return datetime.max.replace(tzinfo=UTC)
        return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))

    def is_exceeded(self, moment: datetime, *, now: datetime) -> bool:
        """Whether something of `moment` is older than this age."""
        return self.after(moment) < now
