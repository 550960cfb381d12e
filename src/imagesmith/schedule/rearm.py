"""Recomputes every armed fire time: after the zone database changed, and after the clock went back.

Each row holds the moment from which its fire time was computed, so the computation can be repeated under today's
rules. An instant that newer rules move into the past is then due and is treated like any missed tick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from imagesmith.schedule.parsed import ParsedSchedules
from imagesmith.store import schedules
from imagesmith.store.database import Database
from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.schedules import FireTime
from imagesmith.values.schedule import Cron, UnknownZone

_log = logging.getLogger(__name__)

_PAGE = 5000
_BATCH = 1000
"""Rows per unit of work."""

_MOST_KNOWN = 10_000
"""Greatest number of schedules whose next fire time is cached."""


@dataclass(frozen=True)
class RearmReport:
    """How many armed pipelines were checked, and how many got a new fire time."""

    seen: int
    changed: int


def rearm_all(
    database: Database, *, now: Callable[[], datetime], stop: Callable[[], bool] = lambda: False
) -> RearmReport:
    """Recompute all fire times in short units of work; `stop` ends this early without loss."""
    rules = _Rules()
    seen = changed = 0
    after = ""
    while not stop():
        with database.read() as tx:
            rows = schedules.fire_times(tx, after, _PAGE)
        if not rows:
            break
        after = rows[-1].pipeline_arn
        seen += len(rows)
        moment = microseconds(now())
        moved = [item for item in (rules.rearmed(row, moment) for row in rows) if item is not None]
        for scope, group in groupby(moved, key=lambda item: f"{item.row.account}/{item.row.region}"):
            for batch in _batches(list(group)):
                with database.write(scope) as tx:
                    changed += schedules.rearm(tx, batch)
    if changed:
        _log.info("%d of %d schedules were rearmed", changed, seen)
    return RearmReport(seen, changed)


class _Rules:
    """Computes fire times by the current rules.

    All moments between two fire times of a cron schedule have the same next one, so many pipelines on few schedules
    need few computations.
    """

    def __init__(self) -> None:
        self._parsed = ParsedSchedules()
        self._known: dict[tuple[str, str], tuple[int, int]] = {}

    def rearmed(self, row: FireTime, now: int) -> schedules.Rearmed | None:
        """The new fire time for a row; None when the row stays."""
        following = self._following(row, now)
        return None if following == row.next_fire else schedules.Rearmed(row, min(row.since, now), following)

    def _following(self, row: FireTime, now: int) -> int | None:
        """The fire time of a row in microseconds; None when it does not fire again.

        A row that was computed in the future comes from a clock that went back: it is computed from now. A row
        whose zone is missing from the zone database stays: its tick is logged as a failed run.
        """
        since = min(row.since, now)
        key = (row.expression, row.timezone)
        known = self._known.get(key)
        if known is not None and known[0] <= since < known[1]:
            return known[1]
        try:
            rule = self._parsed.read(*key)
        except UnknownZone as error:
            _log.warning("%s cannot be rearmed: %s", row.pipeline_arn, error)
            return row.next_fire
        found = rule.next_after(from_microseconds(since), from_microseconds(row.anchor))
        following = None if found is None else microseconds(found)
        if following is not None and isinstance(rule, Cron):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = (since, following)
        return following


def _batches(moved: Sequence[schedules.Rearmed]) -> Iterator[Sequence[schedules.Rearmed]]:
    for start in range(0, len(moved), _BATCH):
        yield moved[start : start + _BATCH]
