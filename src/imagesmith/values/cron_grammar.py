"""The grammar of the AWS cron dialect, read from left to right (spec/pipelines.md 2.1, 2.2).

    fields   = minute SP hour SP day SP month SP weekday SP year
    field    = "*" | element *("," element)
    element  = value ["-" value] ["/" step] | "*/" step
    day      = field | "?" | "L" | "L-" n | "LW" | n "W"
    weekday  = field | "?" | "L" | value "L" | value "#" k

The first wrong character ends the parsing with its position and one of the texts of spec/pipelines.md 2.2; only the
rule about the two day fields is checked after the last field. Letters may have either case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from imagesmith.values.cron_days import (
    FIRST_YEAR,
    LAST_YEAR,
    BeforeLast,
    DayRule,
    LastWeekday,
    LastWorkday,
    NearestWorkday,
    NthWeekday,
    OnDays,
    OnWeekdays,
)
from imagesmith.values.recurrence import ScheduleError

MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

_PREFIX: Final = "cron("
_DIGITS: Final = frozenset("0123456789")
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_LONGEST_NUMBER: Final = 9
"""A number with more digits is too large for any field."""
_LARGEST_OFFSET: Final = 30


@dataclass(frozen=True, slots=True)
class _Field:
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


_MINUTE: Final = _Field("Minute", 0, 59, wraps=True)
_HOUR: Final = _Field("Hour", 0, 23, wraps=True)
_DAY: Final = _Field("Day of month", 1, 31)
_MONTH: Final = _Field("Month", 1, 12, MONTH_NAMES, wraps=True)
_WEEKDAY: Final = _Field("Day-of-Week", 1, 7, WEEKDAY_NAMES, wraps=True)
_YEAR: Final = _Field("Year", FIRST_YEAR, LAST_YEAR, zero=FIRST_YEAR)

EVERY_MINUTE: Final = _MINUTE.every
EVERY_HOUR: Final = _HOUR.every
EVERY_DAY: Final = _DAY.every
EVERY_MONTH: Final = _MONTH.every
EVERY_WEEKDAY: Final = _WEEKDAY.every
EVERY_YEAR: Final = _YEAR.every


@dataclass(frozen=True, slots=True)
class CronFields:
    """A parsed expression: bit masks by value (years: bit y - 1970), and the rule of the one day field."""

    minutes: int
    hours: int
    day_rule: DayRule
    months: int
    years: int


def read_fields(expression: str, *, lenient: bool) -> CronFields:
    """Read a whole `cron(...)`; `lenient` as in parse_schedule. Raises ScheduleError."""
    return _CronReader(expression[len(_PREFIX) : -1]).fields(lenient=lenient)


class _CronReader:
    """The inner text and the current position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._field = _MINUTE
        """The field that is being read."""

    def fields(self, *, lenient: bool) -> CronFields:
        minutes = self._masked(_MINUTE)
        self._blank()
        hours = self._masked(_HOUR)
        self._blank()
        start = self._at
        by_day = self._day()
        every_day = self._text[start : self._at] == "*"
        self._blank()
        months = self._masked(_MONTH)
        self._blank()
        start = self._at
        by_weekday = self._weekday()
        every_weekday = self._text[start : self._at] == "*"
        if lenient and self._at == len(self._text):
            years = EVERY_YEAR
        else:
            self._blank()
            years = self._masked(_YEAR)
            self._end()
        if lenient and by_day and by_weekday:
            # Either of two stars may be dropped: both mean every day.
            by_weekday = None if every_weekday else by_weekday
            by_day = None if every_day and by_weekday else by_day
        rule = by_day or by_weekday
        if rule is None or (by_day and by_weekday):
            self._fail(
                "Support for specifying both a day-of-week AND a day-of-month parameter is not implemented", 0
            )
        return CronFields(minutes=minutes, hours=hours, day_rule=rule, months=months, years=years)

    def _day(self) -> DayRule | None:
        """The day of month field; None for `?`."""
        self._field = _DAY
        start = self._at
        if self._accept("?"):
            return None
        if self._accept("L"):
            rule = self._last_day()
            return self._alone(rule, start)
        if self._peek() in _DIGITS:
            day = self._value()
            letter = self._at
            if self._accept("W"):
                return self._alone(NearestWorkday(day), letter)
            self._at = start
        return OnDays(self._elements())

    def _last_day(self) -> DayRule:
        if self._accept("W"):
            return LastWorkday()
        if not self._accept("-"):
            return BeforeLast(0)
        start = self._at
        offset = self._read_number()
        if offset > _LARGEST_OFFSET:
            self._fail(f"Offset from last day must be <= {_LARGEST_OFFSET}", start)
        return BeforeLast(offset)

    def _weekday(self) -> DayRule | None:
        """The day of week field; None for `?`."""
        self._field = _WEEKDAY
        start = self._at
        if self._accept("?"):
            return None
        if self._accept("L"):
            return self._alone(OnWeekdays(1 << 1), start)  # alone it means Sunday (spec/pipelines.md 10, no. 4)
        if self._peek() != "*":
            weekday = self._value()
            option = self._at
            if self._accept("L"):
                return self._alone(LastWeekday(weekday), option)
            if self._accept("#"):
                return NthWeekday(weekday, self._nth(option))
            self._at = start
        return OnWeekdays(self._elements())

    def _nth(self, option: int) -> int:
        nth = self._read_number() if self._peek() in _DIGITS else 0
        if not 1 <= nth <= 5:
            self._fail("A numeric value between 1 and 5 must follow the '#' option", option)
        return nth

    def _alone(self, rule: DayRule, option: int) -> DayRule:
        """A rule with `L` or `W` must be alone in its field; the error is at the letter, not beside it."""
        if self._peek() in (",", "-", "/"):
            self._fail(f"'{self._text[option].upper()}' option is not valid here", option)
        return rule

    def _masked(self, field: _Field) -> int:
        self._field = field
        return self._elements()

    def _elements(self) -> int:
        """A field of values, ranges and steps, as a mask."""
        field = self._field
        if self._accept("*"):
            if not self._accept("/"):
                return field.every
            mask = field.mask(field.low, field.high, self._step())
        else:
            mask = self._element()
        while self._accept(","):
            mask |= self._element()
        return mask

    def _element(self) -> int:
        field, start = self._field, self._at
        if self._text[start : start + 2] == "*/":
            self._at += 2
            return field.mask(field.low, field.high, self._step())
        first = self._value()
        if self._accept("-"):
            last = self._value()
            if last < first and not field.wraps:
                self._fail(f"Invalid range: {self._text[start : self._at]}", start)
            last += field.size if last < first else 0
        else:
            last = field.high if self._peek() == "/" else first
        step = self._step() if self._accept("/") else 1
        return field.mask(first, last, step)

    def _step(self) -> int:
        field, start = self._field, self._at
        step = self._read_number()
        if not 1 <= step <= field.size:
            given = self._text[start : self._at]
            self._fail(f"Increment must be between 1 and {field.size}: {given}", start)
        return step

    def _value(self) -> int:
        field, start = self._field, self._at
        if field.names and self._peek() in _LETTERS:
            return self._read_name()
        value = self._read_number()
        if not field.low <= value <= field.high:
            self._fail(f"{field.label} values must be between {field.low} and {field.high}", start)
        return value

    def _read_name(self) -> int:
        """A name of the field; an `L` behind a weekday stays unread."""
        field, start = self._field, self._at
        end = start
        while end < len(self._text) and self._text[end] in _LETTERS:
            end += 1
        word = self._text[start:end]
        if word.upper() in ("L", "W", "LW", "WL"):
            self._stray()
        if field is _WEEKDAY and len(word) == 4 and word.upper().endswith("L"):
            word = word[:3]
        if word.upper() not in field.names:
            self._fail(f"Invalid {field.label} value: '{word}'", start)
        self._at = start + len(word)
        return field.low + field.names.index(word.upper())

    def _read_number(self) -> int:
        start = self._at
        while self._peek() in _DIGITS:
            self._at += 1
        if self._at == start:
            self._stray()
        digits = self._text[start : self._at]
        return int(digits) if len(digits) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER

    def _blank(self) -> None:
        if not self._accept(" "):
            self._stray()

    def _end(self) -> None:
        if self._at == len(self._text):
            return
        if self._text[self._at] != " ":
            self._stray()
        following = self._at + 1 if self._text[self._at + 1 : self._at + 2].strip() else self._at
        self._fail("Unexpected character after end of expression", following)

    def _peek(self) -> str:
        """The next character, or an empty text."""
        return self._text[self._at : self._at + 1]

    def _accept(self, character: str) -> bool:
        if self._peek().upper() != character:
            return False
        self._at += 1
        return True

    def _stray(self) -> NoReturn:
        """The error for a wrong next character."""
        character = self._peek()
        if not character:
            self._fail("Unexpected end of expression", len(self._text))
        if character.upper() in ("L", "W"):
            self._fail(f"'{character.upper()}' option is not valid here", self._at)
        if character == "?" and self._field not in (_DAY, _WEEKDAY):
            self._fail("'?' can only be specified for Day-of-Month or Day-of-Week", self._at)
        self._fail(f"Unexpected character: {character}", self._at)

    def _fail(self, text: str, position: int) -> NoReturn:
        detail = (
            "Invalid schedule expression. Details: Invalid CRON expression: "
            f"error at position {position}, details: {text}."
        )
        raise ScheduleError(position, text, detail, column=len(_PREFIX) + position)
