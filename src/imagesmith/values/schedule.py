"""Schedule expressions: `cron(...)` in the AWS dialect and `rate(...)` (spec/pipelines.md 2).

    parse_schedule --> Cron (cron, cron_grammar, cron_days, cron_words, zones)
                   \\-> Rate (rate)

Both are Recurrences: next_after, upcoming, explain.
"""

from __future__ import annotations

from imagesmith.values.cron import Cron, parse_cron
from imagesmith.values.rate import Rate, parse_rate
from imagesmith.values.recurrence import ScheduleError, UnknownZone
from imagesmith.values.zones import zone_named

__all__ = ["Cron", "Rate", "Schedule", "ScheduleError", "UnknownZone", "parse_schedule"]

Schedule = Cron | Rate


def parse_schedule(expression: str, timezone: str | None = None, *, lenient: bool = False) -> Schedule:
    """Read an expression; `timezone` (IANA name, default UTC) must exist but has no effect on a rate.

    `lenient` is the switch `schedule.lenient_cron`: five fields mean every year, and `*` in one day field
    yields to the other. Raises ScheduleError or UnknownZone.
    """
    if expression.startswith("cron(") and expression.endswith(")"):
        return parse_cron(expression, timezone, lenient=lenient)
    if expression.startswith("rate(") and expression.endswith(")"):
        rate = parse_rate(expression)
        if timezone is not None:
            zone_named(timezone)
        return rate
    text = "The expression must be a cron or rate expression"
    raise ScheduleError(None, text, f"Invalid schedule expression. Details: {text}.")
