"""A cache of parsed schedules: many pipelines share few different schedules."""

from __future__ import annotations

from imagesmith.values.schedule import Schedule, parse_schedule

_MOST = 10_000
"""Greatest number of cached schedules; others are parsed again."""


class ParsedSchedules:
    """Caches parsed schedules for one walk over pipelines: zone rules may change afterwards."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], Schedule] = {}

    def read(self, expression: str, timezone: str) -> Schedule:
        """The schedule of a stored pipeline. Raises UnknownZone when its zone is missing from the zone database."""
        key = (expression, timezone)
        found = self._read.get(key)
        if found is None:
            if len(self._read) >= _MOST:
                self._read.clear()
            # accepted schedules stay readable after the switch for lenient expressions is turned off
            found = self._read[key] = parse_schedule(expression, timezone, lenient=True)
        return found
