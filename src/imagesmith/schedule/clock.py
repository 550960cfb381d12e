"""The scheduler: finds due pipelines, fires each in its scope, sleeps until the next fire time.

    start --> recompute all --> [tick] --> sleep until the next fire time, at most a few seconds --> [tick] ...
                                  |                     ^ woken when a schedule is armed in this process
                                  v
              due rows, in batches --> one unit of work per scope: tick.fire for each --> effects (enqueue, logs)
              images that became AVAILABLE --> their dependents, likewise (cascade)

Any number of servers may run a scheduler: a batch locks its scope and reads again which pipelines are due, so one
server executes each tick. Tags are read from registries before a unit of work begins, never inside. A process may
die between a commit and its effects; the image is PENDING by then, and the next start enqueues it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence, Set
from datetime import datetime, timedelta
from itertools import groupby
from typing import TypeVar

from imagesmith.artifacts.tags import LookUpTags, TagState
from imagesmith.periodic import Periodic
from imagesmith.resources.call import Call, Effect
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.service import Service
from imagesmith.retries import Backoff
from imagesmith.schedule.cascade import dependents, follow
from imagesmith.schedule.effects import Effects
from imagesmith.schedule.rearm import rearm_all
from imagesmith.schedule.start_condition import moving_tag
from imagesmith.schedule.tick import Fired, fire_all
from imagesmith.store import cascades, queries, scheduled_runs, schedules
from imagesmith.store.database import Database
from imagesmith.store.events import forget_events_before
from imagesmith.store.outage import is_outage
from imagesmith.store.schedules import DuePipeline
from imagesmith.values.arn import Arn
from imagesmith.values.zone_data import installed_since, zone_data

_log = logging.getLogger(__name__)

_BATCH = 100
"""Pipelines per unit of work, which limits the waiting time of callers of the same scope."""

_LONGEST_SLEEP = 5.0
"""Seconds. Another server may arm a pipeline, and the clock may be set, without waking this process."""

_SHORTEST_SLEEP = 0.01
_PAUSES = Backoff(1.0, 60.0)
"""Pauses after failed rounds."""
_CLOCK_BACK = timedelta(seconds=30)
"""A larger step back means that the clock was set; fire times computed in its future are recomputed."""

_ZONES = timedelta(hours=1)
"""Interval of the check for a newer time zone database."""

_KEPT = timedelta(days=90)
"""How long records of runs and events are kept."""

_AVOIDED = timedelta(minutes=5)
"""How long a pipeline is skipped after an unexpected failure of its tick, so that it does not delay the others."""

Done = TypeVar("Done")

Scope = tuple[str, str, str]
"""Account, region and partition of a unit of work."""


class Scheduler:
    """Fires pipelines; `tick` executes one round, `start` repeats rounds in a thread of its own."""

    def __init__(
        self,
        service: Service,
        database: Database,
        *,
        clock: Callable[[], datetime],
        batch: int = _BATCH,
        look_up_tags: LookUpTags | None = None,
        cascade: bool = False,
    ) -> None:
        """`look_up_tags`: set if a moved registry tag counts as an update; `cascade`: see schedule.cascade."""
        self._service = service
        self._database = database
        self._clock = clock
        self._batch = batch
        self._look_up_tags = look_up_tags
        self._tags: dict[str, TagState] = {}
        self._cascade = cascade
        self._latest: datetime | None = None
        self._zones_checked_at: datetime | None = None
        self._effects = Effects()
        self._avoided: dict[str, datetime] = {}
        self._asleep_until: datetime | None = None
        """The end of the thread's sleep unless it is woken; None while it reads the database or is about to."""
        self._stopping = threading.Event()
        self._recomputed = False
        self._failures = 0
        self._rounds = Periodic(
            "scheduler", self._round, seconds=_LONGEST_SLEEP, at_once=True, failing="the scheduler failed"
        )

    def start(self) -> None:
        self._rounds.start()

    def wake(self, next_fire: datetime) -> None:
        """Wake the thread, if needed, for a committed schedule that fires at `next_fire`.

        Most schedules fire long after the end of the sleep; waking the thread for each would make every update of
        a pipeline a tick.
        """
        until = self._asleep_until
        if until is None or next_fire < until:
            self._rounds.wake()

    def close(self, *, patience_seconds: float = 30) -> None:
        """Stop after the current unit of work."""
        self._stopping.set()
        self._rounds.stop(patience_seconds)

    def recompute(self) -> None:
        """Recompute all fire times at a start: zone rules may have changed since. Raises StoreUnavailable."""
        with self._database.write("schedules") as tx:
            scheduled_runs.forget_runs_before(tx, self._clock() - _KEPT)
            forget_events_before(tx, self._clock() - _KEPT)
        rearm_all(self._database, now=self._clock, stop=self._stopping.is_set)

    def tick(self) -> list[Fired]:
        """Fire all due pipelines, in batches, with their effects. Raises StoreUnavailable."""
        self._effects.retry()
        try:
            return self._tick(self._clock())
        finally:
            self._effects.finish()

    def _tick(self, now: datetime) -> list[Fired]:
        if self._latest is not None and now < self._latest - _CLOCK_BACK:
            _log.warning("the clock went back from %s to %s", self._latest, now)
            rearm_all(self._database, now=self._clock, stop=self._stopping.is_set)
        self._latest = now
        self._check_zones(now)
        self._avoided = {arn: until for arn, until in self._avoided.items() if until > now}
        self._tags.clear()
        fired: list[Fired] = []
        while not self._stopping.is_set():
            due, images = self._find_due(now)
            if not due and not images:
                break
            for scope, group in groupby(sorted(due, key=_scope), key=_scope):
                fired += self._fire_scope(scope, [item.pipeline_arn for item in group], now)
            for image_arn in images:
                self._follow(image_arn, now)
        return fired

    def _check_zones(self, now: datetime) -> None:
        """Log the installation of a newer time zone database: loaded zones keep the old rules."""
        if self._zones_checked_at is not None and now < self._zones_checked_at + _ZONES:
            return
        self._zones_checked_at = now
        newer = installed_since()
        if newer is not None:
            _log.warning(
                "schedules use the time zones of %s, and %s is installed: restart this server to use it",
                zone_data().used, newer.used,
            )  # fmt: skip

    def _find_due(self, now: datetime) -> tuple[list[DuePipeline], list[str]]:
        """The next due pipelines, and images that became AVAILABLE."""
        most = self._batch + len(self._avoided)
        with self._database.read() as tx:
            due, images = schedules.due(tx, now, most), cascades.waiting_cascades(tx, most)
        return (
            [item for item in due if item.pipeline_arn not in self._avoided][: self._batch],
            [arn for arn in images if arn not in self._avoided][: self._batch],
        )

    def _fire_scope(self, scope: Scope, arns: Sequence[str], now: datetime) -> list[Fired]:
        """Fire one batch; after a failure each pipeline alone, so that a bad pipeline does not stop the others."""
        try:
            return self._fire_batch(scope, arns)
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("a batch of %d ticks failed; each is retried separately", len(arns))
        fired: list[Fired] = []
        for arn in arns:
            try:
                fired += self._fire_batch(scope, [arn])
            except Exception as error:
                if is_outage(error):
                    raise
                _log.error("the tick of %s failed and is retried in %s: %r", arn, _AVOIDED, error)
                self._avoided[arn] = now + _AVOIDED
        return fired

    def _fire_batch(self, scope: Scope, arns: Sequence[str]) -> list[Fired]:
        """Fire one batch; pipelines that wait for a registry come last."""
        tags = self._moving_tags(scope, arns)
        at_once = [arn for arn in arns if arn not in tags]
        fired = self._unit(scope, lambda call: fire_all(call, at_once)) if at_once else []
        if tags:
            self._read_tags(set(tags.values()))
            if not self._stopping.is_set():
                fired += self._unit(scope, lambda call: fire_all(call, list(tags), tags=self._tags))
        return fired

    def _unit(self, scope: Scope, carry_out: Callable[[Call], list[Done]]) -> list[Done]:
        """Execute one unit of work, then its effects."""
        effects: list[Effect] = []

        def work(call: Call) -> list[Done]:
            done = carry_out(call)
            effects.extend(call.effects)
            # started below instead, where a failed effect does not lose the others
            call.effects.clear()
            return done

        done: list[Done] = self._service.scoped("ScheduledRun", Caller.owner(*scope), work)
        self._effects.begin(effects)
        return done

    def _moving_tags(self, scope: Scope, arns: Sequence[str]) -> dict[str, str]:
        """Pipeline -> the registry tag that its condition depends on."""
        if self._look_up_tags is None:
            return {}

        def work(call: Call) -> dict[str, str]:
            documents = queries.documents(call.tx, arns)
            return {arn: moving_tag(call, documents[arn]) for arn in arns if arn in documents}

        found: dict[str, str] = self._service.reading("ScheduledRun", Caller.owner(*scope), work)
        return {arn: tag for arn, tag in found.items() if tag}

    def _read_tags(self, tags: Set[str]) -> None:
        """Look up the tags that this tick has not read yet."""
        missing = tags - self._tags.keys()
        if self._look_up_tags is not None and missing:
            self._tags.update(self._look_up_tags(missing))

    def _follow(self, image_arn: str, now: datetime) -> None:
        """Start the dependents of an image that became AVAILABLE; after a failure the image is retried later."""
        try:
            self._start_dependents(image_arn)
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("the pipelines built on %s are started in %s", image_arn, _AVOIDED)
            self._avoided[image_arn] = now + _AVOIDED

    def _start_dependents(self, image_arn: str) -> None:
        image = Arn.parse(image_arn)
        scope = (image.owner, image.region, image.partition)
        if self._cascade:
            with self._database.read() as tx:
                arns = dependents(tx, image_arn)
            for start in range(0, len(arns), self._batch):
                batch = arns[start : start + self._batch]
                self._unit(scope, lambda call, batch=batch: follow(call, image_arn, batch))  # type: ignore[misc]
        with self._database.write(f"{image.owner}/{image.region}") as tx:
            cascades.forget_cascades(tx, [image_arn])

    def _round(self) -> float:
        """Execute one round; returns the seconds until the next, which grow during an outage."""
        # before the database is read: later commits find None or the new time
        self._asleep_until = None
        try:
            if not self._recomputed:
                self.recompute()
                self._recomputed = True
            self.tick()
            delay, self._failures = self._delay(), 0
        except Exception as error:
            self._failures += 1
            delay = _PAUSES.pause(self._failures)
            _log.error("the scheduler pauses for %.0f s: %s", delay, error, exc_info=not is_outage(error))
        self._asleep_until = self._clock() + timedelta(seconds=delay)
        return delay

    def _delay(self) -> float:
        """Seconds until the first fire time after the last tick, whose due pipelines are done or postponed."""
        assert self._latest is not None
        with self._database.read() as tx:
            following = schedules.earliest_after(tx, self._latest)
        if following is None:
            return _LONGEST_SLEEP
        return min(max((following - self._clock()).total_seconds(), _SHORTEST_SLEEP), _LONGEST_SLEEP)


def _scope(due: DuePipeline) -> Scope:
    return due.account, due.region, Arn.parse(due.pipeline_arn).partition
