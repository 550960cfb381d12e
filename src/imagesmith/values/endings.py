"""Explains to its author why a schedule has no next fire time."""

from __future__ import annotations

from datetime import MAXYEAR, datetime, timedelta

from imagesmith.values.cron import Cron
from imagesmith.values.cron_days import FIRST_YEAR, high_bit
from imagesmith.values.schedule import Schedule


def why_over(schedule: Schedule, moment: datetime) -> str:
    """A clause such as `it never fires: ...`; empty while there is a time after `moment`."""
    if not isinstance(schedule, Cron):
        fires = schedule.next_after(moment, anchor=moment) is not None
        return "" if fires else f"it never fires: its first time is after the year {MAXYEAR}"
    if schedule.next_after(moment) is not None:
        return ""
    if not schedule.dates.years:
        return "it never fires: no date fits its day, month and year together"
    later = moment + timedelta(days=2)  # past the day of `moment` in every zone
    if schedule.dates.first_from(later.year, later.month, later.day) is not None:
        return f"it never fires again: the clocks of {schedule.timezone} skip all remaining times"
    last = FIRST_YEAR + high_bit(schedule.dates.years)
    return f"it never fires again: {last} is its last year, and no times remain in it"
