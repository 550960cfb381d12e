"""A cron expression in plain English: `At 18:00 on Monday to Friday in July (Europe/Berlin time).`"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from imagesmith.values.cron_days import (
    FIRST_YEAR,
    BeforeLast,
    DayRule,
    LastWeekday,
    LastWorkday,
    NearestWorkday,
    NthWeekday,
    OnDays,
    OnWeekdays,
)
from imagesmith.values.cron_fields import (
    EVERY_DAY,
    EVERY_HOUR,
    EVERY_MINUTE,
    EVERY_MONTH,
    EVERY_WEEKDAY,
    EVERY_YEAR,
    CronFields,
)

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_CLOCK_TIMES = 6
"""Most times of day that are listed individually."""


def sentence(fields: CronFields, timezone: str) -> str:
    """The whole rule; `timezone` is named at the end."""
    parts = [_times(fields.minutes, fields.hours), _days(fields.day_rule)]
    if fields.months != EVERY_MONTH:
        parts.append("in " + _spans(_values(fields.months), lambda month: _MONTHS[month - 1]))
    if fields.years != EVERY_YEAR:
        years = [FIRST_YEAR + bit for bit in _values(fields.years)]
        parts.append(f"in {_plural('the year', years)} {_spans(years, str)}")
    zone = "UTC" if timezone == "UTC" else f"{timezone} time"
    return f"{' '.join(parts)} ({zone})."


def _times(minutes: int, hours: int) -> str:
    of_hour, of_day = _values(minutes), _values(hours)
    if len(of_hour) * len(of_day) <= _CLOCK_TIMES:
        return "At " + _joined(f"{hour:02d}:{minute:02d}" for hour in of_day for minute in of_hour)
    step = _step_of(of_hour, 60)
    if minutes == EVERY_MINUTE:
        start = "Every minute"
    elif step:
        start = f"Every {step} minutes"
    else:
        start = f"At {_plural('minute', of_hour)} {_spans(of_hour, str)}"
    if hours == EVERY_HOUR:
        return start if start.startswith("Every") else f"{start} of every hour"
    return f"{start} of {_plural('the hour', of_day)} {_spans(of_day, str)}"


def _days(rule: DayRule) -> str:
    match rule:
        case OnDays(mask):
            days = _values(mask)
            listed = f"on {_plural('day', days)} {_spans(days, str)} of the month"
            return "every day" if mask == EVERY_DAY else listed
        case OnWeekdays(mask):
            listed = "on " + _spans(_values(mask), lambda day: _WEEKDAYS[day - 1])
            return "every day" if mask == EVERY_WEEKDAY else listed
        case BeforeLast(0):
            return "on the last day of the month"
        case BeforeLast(offset):
            return f"{offset} {'day' if offset == 1 else 'days'} before the last day of the month"
        case NearestWorkday(day):
            return f"on the day from Monday to Friday nearest to day {day} of the month"
        case LastWorkday():
            return "on the last day from Monday to Friday of the month"
        case NthWeekday(weekday, nth):
            return f"on the {_ORDINALS[nth - 1]} {_WEEKDAYS[weekday - 1]} of the month"
        case LastWeekday(weekday):
            return f"on the last {_WEEKDAYS[weekday - 1]} of the month"


def _values(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _step_of(values: Sequence[int], size: int) -> int | None:
    """The step of values that divide the whole circle evenly from 0: 0, 20, 40 -> 20."""
    step = size // len(values)
    return step if list(values) == list(range(0, size, step)) and size % step == 0 else None


def _spans(values: Sequence[int], name: Callable[[int], str]) -> str:
    """`1 to 5, 10 and 12`; a long even row is described as such."""
    steps = {later - earlier for earlier, later in pairwise(values)}
    if len(values) > _CLOCK_TIMES and len(steps) == 1 and steps != {1}:
        return f"{name(values[0])} to {name(values[-1])} in steps of {steps.pop()}"
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts: list[str] = []
    for run in runs:
        texts += [f"{name(run[0])} to {name(run[-1])}"] if len(run) > 2 else [name(value) for value in run]
    return _joined(texts)


def _plural(noun: str, values: Sequence[int]) -> str:
    return noun if len(values) == 1 else noun + "s"


def _joined(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last
