"""Schedules read once for many pipelines: a fleet has few different ones."""

from __future__ import annotations

from imagesmith.values.schedule import Schedule, parse_schedule

_MOST = 10_000
"""Different schedules that are kept; more are read again."""


class ParsedSchedules:
    """Remembers what expressions mean; lives as long as one walk over pipelines, for zone rules may change."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], Schedule] = {}

    def read(self, expression: str, timezone: str) -> Schedule:
        """The schedule of a stored pipeline. Raises UnknownZone when the zone database lost its zone."""
        key = (expression, timezone)
        found = self._read.get(key)
        if found is None:
            if len(self._read) >= _MOST:
                self._read.clear()
            # whatever was accepted once stays readable when the switch for lenient expressions is turned off
            found = self._read[key] = parse_schedule(expression, timezone, lenient=True)
        return found
