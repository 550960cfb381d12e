"""The day rules of a cron expression, tabulated over the few months and years that exist.

A month is one of 28 kinds (its length and the weekday of its first day), a year one of 14 (leap or not, and the
weekday of 1 January). A rule is evaluated once per kind, so that the search for a fire time is a fixed number
of bit operations, and a rule that never fires has no years at all:

    years  bit y - 1970     years that hold a day
    months bit m            months with a day, one mask per kind of year
    days   bit d            days, one mask per kind of month

Weekdays are counted as AWS does: 1 is Sunday, 7 is Saturday.
"""

from __future__ import annotations

from calendar import isleap
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199

_EVERY_WEEK: Final = sum(1 << day for day in range(0, 29, 7))


def _first_weekday(year: int, month: int = 1) -> int:
    """The weekday of a month's first day, 0 being Sunday."""
    return date(year, month, 1).isoweekday() % 7


def _month_kinds(leap: bool, first: int) -> tuple[int, ...]:
    """The kind of each month of a year, January at index 1."""
    kinds = [-1]
    for length in (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31):
        kinds.append((length - 28) * 7 + first)
        first = (first + length) % 7
    return tuple(kinds)


YEAR_KINDS: Final = tuple(isleap(year) * 7 + _first_weekday(year) for year in range(FIRST_YEAR, LAST_YEAR + 1))
"""The kind of each year, FIRST_YEAR at index 0."""

MONTH_KINDS: Final = tuple(_month_kinds(leap, first) for leap in (False, True) for first in range(7))
"""kind of year -> number of month -> kind of month."""

_YEARS_OF_KIND: Final = tuple(
    sum(1 << index for index, kind in enumerate(YEAR_KINDS) if kind == wanted) for wanted in range(14)
)


@dataclass(frozen=True, slots=True)
class OnDays:
    """Days by number: bit d of `mask`."""

    mask: int

    def in_month(self, _first: int, length: int) -> int:
        return self.mask & ((2 << length) - 1)


@dataclass(frozen=True, slots=True)
class OnWeekdays:
    """Days by weekday: bits 1 (Sunday) to 7 of `mask`."""

    mask: int

    def in_month(self, first: int, length: int) -> int:
        days = 0
        for day in range(1, 8):
            if self.mask >> ((first + day - 1) % 7 + 1) & 1:
                days |= _EVERY_WEEK << day
        return days & ((2 << length) - 1)


@dataclass(frozen=True, slots=True)
class BeforeLast:
    """`L` and `L-n`: so many days before the last day."""

    offset: int

    def in_month(self, _first: int, length: int) -> int:
        return 1 << (length - self.offset) if self.offset < length else 0


@dataclass(frozen=True, slots=True)
class NearestWorkday:
    """`nW`: the day from Monday to Friday nearest to `day`, in the same month."""

    day: int

    def in_month(self, first: int, length: int) -> int:
        return 1 << _nearest_workday(self.day, first, length) if self.day <= length else 0


@dataclass(frozen=True, slots=True)
class LastWorkday:
    """`LW`: the last day from Monday to Friday."""

    def in_month(self, first: int, length: int) -> int:
        return 1 << _nearest_workday(length, first, length)


@dataclass(frozen=True, slots=True)
class NthWeekday:
    """`d#k`: the k-th such weekday."""

    weekday: int
    nth: int

    def in_month(self, first: int, length: int) -> int:
        day = (self.weekday - 1 - first) % 7 + 1 + (self.nth - 1) * 7
        return 1 << day if day <= length else 0


@dataclass(frozen=True, slots=True)
class LastWeekday:
    """`dL`: the last such weekday."""

    weekday: int

    def in_month(self, first: int, length: int) -> int:
        last = (first + length - 1) % 7 + 1
        return 1 << (length - (last - self.weekday) % 7)


DayRule = OnDays | OnWeekdays | BeforeLast | NearestWorkday | LastWorkday | NthWeekday | LastWeekday


def _nearest_workday(day: int, first: int, length: int) -> int:
    weekday = (first + day - 1) % 7
    if weekday == 6:  # Saturday: the Friday before, unless that is last month's
        return day - 1 if day > 1 else 3
    if weekday == 0:  # Sunday: the Monday after, unless that is next month's
        return day + 1 if day < length else day - 2
    return day


@dataclass(frozen=True, slots=True)
class FiringDays:
    """The tables of the module text."""

    years: int
    months: tuple[int, ...]
    days: tuple[int, ...]

    def first_from(self, year: int, month: int, day: int) -> tuple[int, int, int] | None:
        """The first firing date at or after the given one; `day` may be one past the month's end."""
        index = year - FIRST_YEAR
        if self.years >> index & 1:
            kind = YEAR_KINDS[index]
            months = self.months[kind]
            if months >> month & 1:
                days = self.days[MONTH_KINDS[kind][month]] >> day
                if days:
                    return year, month, day + low_bit(days)
            months >>= month + 1
            if months:
                month += 1 + low_bit(months)
                return year, month, low_bit(self.days[MONTH_KINDS[kind][month]])
        years = self.years >> (index + 1)
        if not years:
            return None
        index += 1 + low_bit(years)
        kind = YEAR_KINDS[index]
        month = low_bit(self.months[kind])
        return FIRST_YEAR + index, month, low_bit(self.days[MONTH_KINDS[kind][month]])


def low_bit(mask: int) -> int:
    """The number of the lowest bit that is set; `mask` is not 0."""
    return (mask & -mask).bit_length() - 1


def high_bit(mask: int) -> int:
    """The number of the highest bit that is set; `mask` is not 0."""
    return mask.bit_length() - 1


@lru_cache(maxsize=1024)
def firing_days(rule: DayRule, months: int, years: int) -> FiringDays:
    """Tabulate a rule within the given months (bits 1 to 12) and years (bit y - 1970)."""
    days = tuple(rule.in_month(first, length) for length in range(28, 32) for first in range(7))
    if 0 in days:
        by_kind = tuple(
            sum(1 << month for month in range(1, 13) if months >> month & 1 and days[kinds[month]])
            for kinds in MONTH_KINDS
        )
        years &= sum(mask for mask, firing in zip(_YEARS_OF_KIND, by_kind, strict=True) if firing)
    else:
        by_kind = (months,) * 14
    return FiringDays(years, by_kind, days)
