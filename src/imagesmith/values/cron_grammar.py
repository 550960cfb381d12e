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

from typing import Final, NoReturn

from imagesmith.values.cron_days import (
    BeforeLast,
    DayRule,
    LastWeekday,
    LastWorkday,
    NearestWorkday,
    NthWeekday,
    OnDays,
    OnWeekdays,
)
from imagesmith.values.cron_fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, YEAR, CronField, CronFields
from imagesmith.values.recurrence import ScheduleError

_PREFIX: Final = "cron("
_DIGITS: Final = frozenset("0123456789")
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_LONGEST_NUMBER: Final = 9
"""A number with more digits is too large for any field."""
_LARGEST_OFFSET: Final = 30


def read_fields(expression: str, *, lenient: bool) -> CronFields:
    """Read a whole `cron(...)`; `lenient` as in parse_schedule. Raises ScheduleError."""
    return _CronReader(expression[len(_PREFIX) : -1]).fields(lenient=lenient)


class _CronReader:
    """The inner text and the current position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._field = MINUTE
        """The field that is being read."""

    def fields(self, *, lenient: bool) -> CronFields:
        minutes = self._masked(MINUTE)
        self._blank()
        hours = self._masked(HOUR)
        self._blank()
        start = self._at
        by_day = self._day()
        every_day = self._text[start : self._at] == "*"
        self._blank()
        months = self._masked(MONTH)
        self._blank()
        start = self._at
        by_weekday = self._weekday()
        every_weekday = self._text[start : self._at] == "*"
        if lenient and self._at == len(self._text):
            years = YEAR.every
        else:
            self._blank()
            years = self._masked(YEAR)
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
        self._field = DAY
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
        self._field = WEEKDAY
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

    def _masked(self, field: CronField) -> int:
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
        if field is WEEKDAY and len(word) == 4 and word.upper().endswith("L"):
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
        if character == "?" and self._field not in (DAY, WEEKDAY):
            self._fail("'?' can only be specified for Day-of-Month or Day-of-Week", self._at)
        self._fail(f"Unexpected character: {character}", self._at)

    def _fail(self, text: str, position: int) -> NoReturn:
        detail = (
            "Invalid schedule expression. Details: Invalid CRON expression: "
            f"error at position {position}, details: {text}."
        )
        raise ScheduleError(position, text, detail, column=len(_PREFIX) + position)
