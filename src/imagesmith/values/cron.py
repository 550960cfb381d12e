"""A cron schedule in a time zone, and its next fire time by field arithmetic (spec/pipelines.md 2.1, 2.4).

    moment -> wall clock of the zone -> first matching wall time -> its first instant, if it has one
                                              ^                         | a gap, or already past (overlap)
                                              +--- end of the irregularity

No step walks over minutes or days: see cron_days for the dates; hours and minutes are bit masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from imagesmith.values.cron_days import FIRST_YEAR, LAST_YEAR, FiringDays, firing_days, high_bit, low_bit
from imagesmith.values.cron_fields import CronFields
from imagesmith.values.cron_grammar import read_fields
from imagesmith.values.cron_words import sentence
from imagesmith.values.recurrence import Recurrence, require_aware
from imagesmith.values.zones import end_of_irregular, is_irregular, offsets_of, zone_named

_MINUTE: Final = timedelta(minutes=1)
_START: Final = datetime(FIRST_YEAR, 1, 1)
_BEFORE_START: Final = _START.replace(tzinfo=UTC) - timedelta(days=2)
"""A moment whose wall clock is before 1970 in every zone."""


@dataclass(frozen=True, slots=True)
class Cron(Recurrence):
    """A parsed cron expression; `timezone` is the zone's IANA name."""

    expression: str
    timezone: str
    fields: CronFields
    zone: tzinfo = field(repr=False, compare=False)
    dates: FiringDays = field(repr=False, compare=False)

    def next_after(self, moment: datetime, anchor: datetime | None = None) -> datetime | None:  # noqa: ARG002
        """See Recurrence; a cron schedule has no anchor."""
        require_aware(moment, "moment")
        if moment.year > LAST_YEAR + 1:
            return None
        if moment < _BEFORE_START:
            moment = _BEFORE_START
        local = moment.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0) + _MINUTE
        wall = self._first_from(max(local, _START))
        while wall is not None:
            first, second = offsets_of(wall, self.zone)
            if first >= second:
                instant = (wall - first).replace(tzinfo=UTC)
                if instant > moment:
                    return instant
            wall = self._first_beyond(wall, abs(first - second))
        return None

    def _first_beyond(self, wall: datetime, span: timedelta) -> datetime | None:
        """The first matching wall time outside the gap or overlap, `span` long, that `wall` lies in."""
        # A schedule whose times all fall into a gap, such as 02:30 on the last Sunday of March, gets here for two
        # centuries in a row. So the last time of the day is checked before any search for the gap's end.
        last = wall.replace(hour=high_bit(self.fields.hours), minute=high_bit(self.fields.minutes))
        if last == wall or (last - wall < span and is_irregular(last, self.zone)):
            return self._first_on(self.dates.first_from(wall.year, wall.month, wall.day + 1))
        return self._first_from(end_of_irregular(wall, self.zone))

    def explain(self) -> str:
        """See Recurrence."""
        words = sentence(self.fields, self.timezone)
        return words if self.dates.years else f"{words} No such date exists: it never fires."

    def _first_from(self, start: datetime) -> datetime | None:
        """The first wall time at or after `start` that matches every field."""
        hours, minutes = self.fields.hours, self.fields.minutes
        found = self.dates.first_from(start.year, start.month, start.day)
        if found == (start.year, start.month, start.day):
            hour = start.hour
            left = minutes >> start.minute
            if left and hours >> hour & 1:
                return datetime(*found, hour, start.minute + low_bit(left))
            later = hours >> (hour + 1)
            if later:
                return datetime(*found, hour + 1 + low_bit(later), low_bit(minutes))
            found = self.dates.first_from(start.year, start.month, start.day + 1)
        return self._first_on(found)

    def _first_on(self, date: tuple[int, int, int] | None) -> datetime | None:
        """The first time of a day that fires."""
        return None if date is None else datetime(*date, low_bit(self.fields.hours), low_bit(self.fields.minutes))


def parse_cron(expression: str, timezone: str | None = None, *, lenient: bool = False) -> Cron:
    """Read `cron(...)`; see parse_schedule. Raises ScheduleError, then UnknownZone."""
    fields = read_fields(expression, lenient=lenient)
    name = "UTC" if timezone is None else timezone
    return Cron(
        expression=expression,
        timezone=name,
        fields=fields,
        zone=zone_named(name),
        dates=firing_days(fields.day_rule, fields.months, fields.years),
    )
