"""The meaning of cron expressions, written a second time as simply as possible, and expressions to try it on.

Nothing here uses the code under test: a drawn expression carries its own meaning (sets of values, a predicate on
dates), and wall times are turned into instants only by asking what the clocks show at an instant.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from imagesmith.values.zones import zone_named

ZONES = (
    "UTC", "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "Africa/Monrovia", "America/Asuncion",
    "America/Caracas", "America/Havana", "America/New_York", "America/Nuuk", "America/Sao_Paulo",
    "America/Scoresbysund", "America/St_Johns", "Antarctica/Casey", "Antarctica/Troll", "Antarctica/Vostok",
    "Asia/Amman", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Pyongyang", "Asia/Tehran",
    "Asia/Ust-Nera", "Atlantic/Azores", "Australia/Lord_Howe", "Europe/Berlin", "Europe/Dublin", "Europe/London",
    "Europe/Moscow", "Pacific/Apia", "Pacific/Chatham", "Pacific/Fakaofo", "Pacific/Kiritimati",
    "Pacific/Kwajalein",
)  # fmt: skip
"""Ordinary zones and the oddest: changes at midnight, of 15, 30, 120 and 420 minutes, days that never were."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
START = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(2199, 12, 31, 23, 59, tzinfo=UTC)


@dataclass(frozen=True)
class Meaning:
    """An expression and what it means."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    falls_on: Callable[[date], bool]
    months: frozenset[int]
    years: frozenset[int]


def weekday_of(day: date) -> int:
    """1 is Sunday, 7 is Saturday."""
    return day.isoweekday() % 7 + 1


@lru_cache
def changes_of(zone_name: str) -> tuple[datetime, ...]:
    """Instants at which a zone's offset changes, to the minute, 1970 to 2199."""
    zone, found = zone_named(zone_name), []
    step = timedelta(days=2)
    moment = START - step
    while moment < END:
        later = moment + step
        if moment.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            low, high = moment, later
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                same = middle.astimezone(zone).utcoffset() == moment.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high.replace(second=0, microsecond=0))
        moment = later
    return tuple(found)


def instants_of(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Every instant at which the zone's clocks show `wall`."""
    near = [wall.replace(tzinfo=UTC) + timedelta(hours=hours) for hours in (-30, 0, 30)]
    offsets = {moment.astimezone(zone).utcoffset() or timedelta(0) for moment in near}
    shown = [(wall - offset).replace(tzinfo=UTC) for offset in offsets]
    return sorted(instant for instant in shown if instant.astimezone(zone).replace(tzinfo=None) == wall)


def brute_force_next(meaning: Meaning, moment: datetime, zone_name: str) -> datetime | None:
    """Try local days one after the other, and in each day every minute."""
    zone = zone_named(zone_name)
    day = max(moment.astimezone(zone).date() - timedelta(days=1), date(1970, 1, 1))
    while day.year <= 2199:
        if day.year not in meaning.years:
            day = date(day.year + 1, 1, 1)
            continue
        if day.month in meaning.months and meaning.falls_on(day):
            fires = [instant for instant in _fires_on(day, meaning, zone) if instant > moment]
            if fires:
                return min(fires)
        day += timedelta(days=1)
    return None


def _fires_on(day: date, meaning: Meaning, zone: ZoneInfo) -> list[datetime]:
    found = []
    for minute in range(1440):
        if minute // 60 in meaning.hours and minute % 60 in meaning.minutes:
            wall = datetime(day.year, day.month, day.day, minute // 60, minute % 60)
            found += instants_of(wall, zone)[:1]
    return found


Part = tuple[str, frozenset[int]]


@st.composite
def elements(draw: st.DrawFn, low: int, high: int, names: tuple[str, ...] = (), *, wraps: bool) -> Part:
    """One value, range or step, and its values."""

    def spelt(value: int) -> str:
        if draw(st.booleans()) and names:
            name = names[value - low]
            return draw(st.sampled_from([name, name.upper(), name.title()]))
        return draw(st.sampled_from([str(value), f"{value:02d}"]))

    values, size = st.integers(low, high), high - low + 1
    kind = draw(st.sampled_from(["value", "value", "range", "from", "range/step", "*/step"]))
    if kind == "value":
        value = draw(values)
        return spelt(value), frozenset({value})
    step = draw(st.integers(1, size)) if "step" in kind or kind == "from" else 1
    if kind == "*/step":
        return f"*/{step}", frozenset(range(low, high + 1, step))
    first, last = draw(values), high
    if kind == "from":
        return f"{spelt(first)}/{step}", frozenset(range(first, high + 1, step))
    last = draw(values)
    if last < first and not wraps:
        first, last = last, first
    lap = [*range(first, high + 1), *range(low, first)]
    reached = lap[: lap.index(last) + 1][::step]
    return f"{spelt(first)}-{spelt(last)}{f'/{step}' if kind == 'range/step' else ''}", frozenset(reached)


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, names: tuple[str, ...] = (), *, wraps: bool) -> Part:
    """A whole field of elements, or a star."""
    if draw(st.integers(0, 2)) == 0:
        return "*", frozenset(range(low, high + 1))
    parts = draw(st.lists(elements(low, high, names, wraps=wraps), min_size=1, max_size=3))
    return ",".join(text for text, _ in parts), frozenset().union(*(values for _, values in parts))


def _nearest_workday(year: int, month: int, wanted: int) -> int | None:
    length = monthrange(year, month)[1]
    if wanted > length:
        return None
    workdays = [day for day in range(1, length + 1) if date(year, month, day).isoweekday() <= 5]
    return min(workdays, key=lambda day: (abs(day - wanted), day))


def _same_weekdays(day: date) -> list[int]:
    length = monthrange(day.year, day.month)[1]
    return [number for number in range(1, length + 1) if (number - day.day) % 7 == 0]


Days = Callable[[date], bool]


def _last_day(day: date) -> int:
    return monthrange(day.year, day.month)[1]


@st.composite
def days_of_month(draw: st.DrawFn) -> tuple[str, Days]:
    """The day of month field, and the dates that it means."""
    kind = draw(st.sampled_from(["days", "days", "L", "L-n", "LW", "nW"]))
    number = draw(st.integers(1, 31))
    if kind == "L":
        return "L", lambda day: day.day == _last_day(day)
    if kind == "L-n":
        return f"L-{number - 1}", lambda day: day.day == _last_day(day) - number + 1
    if kind == "LW":
        return "LW", lambda day: day.day == _nearest_workday(day.year, day.month, _last_day(day))
    if kind == "nW":
        return f"{number}W", lambda day: day.day == _nearest_workday(day.year, day.month, number)
    text, days = draw(fields(1, 31, wraps=False))
    return text, lambda day: day.day in days


@st.composite
def days_of_week(draw: st.DrawFn) -> tuple[str, Days]:
    """The day of week field, and the dates that it means."""
    kind = draw(st.sampled_from(["weekdays", "weekdays", "L", "dL", "d#k"]))
    weekday = draw(st.integers(1, 7))
    spelt = draw(st.sampled_from([str(weekday), WEEKDAYS[weekday - 1], WEEKDAYS[weekday - 1].upper()]))
    nth = draw(st.integers(1, 5))
    if kind == "L":
        return "L", lambda day: weekday_of(day) == 1
    if kind == "dL":
        return f"{spelt}L", lambda day: weekday_of(day) == weekday and day.day == _same_weekdays(day)[-1]
    if kind == "d#k":
        at = nth - 1
        return (
            f"{spelt}#{nth}",
            lambda day: weekday_of(day) == weekday and _same_weekdays(day).index(day.day) == at,
        )
    text, weekdays = draw(fields(1, 7, WEEKDAYS, wraps=True))
    return text, lambda day: weekday_of(day) in weekdays


@st.composite
def meanings(draw: st.DrawFn) -> Meaning:
    """An expression with its meaning; sparse and never firing ones among them."""
    minute, minutes = draw(fields(0, 59, wraps=True))
    hour, hours = draw(fields(0, 23, wraps=True))
    on_month_days = draw(st.booleans())
    days, falls_on = draw(days_of_month() if on_month_days else days_of_week())
    by_day, by_weekday = (days, "?") if on_month_days else ("?", days)
    month, months = draw(fields(1, 12, MONTHS, wraps=True))
    year, years = draw(st.one_of(st.just(("*", frozenset(range(1970, 2200)))), fields(1970, 2199, wraps=False)))
    text = f"cron({minute} {hour} {by_day} {month} {by_weekday} {year})"
    return Meaning(text, minutes, hours, falls_on, months, years)


@st.composite
def moments(draw: st.DrawFn, zone_name: str) -> datetime:
    """A moment between 1970 and 2199, often close to a change of the zone's offset."""
    changes = changes_of(zone_name)
    if draw(st.booleans()) and changes:
        near = timedelta(seconds=draw(st.integers(-100_000, 100_000)))
        return draw(st.sampled_from(changes)) + near
    return START + timedelta(seconds=draw(st.integers(0, int((END - START).total_seconds()))))
