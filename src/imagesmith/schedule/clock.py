"""The running clock: finds due pipelines, fires each in its scope, sleeps until the next.

    start --> recompute all --> [tick] --> sleep until the next fire time, at most a few seconds --> [tick] ...
                                  |                     ^ woken when a schedule is armed in this process
                                  v
              due rows, in batches --> one unit of work per scope: tick.fire for each --> effects (enqueue, logs)
              images that became AVAILABLE --> their dependents, likewise (cascade)

Any number of servers may run one: a batch locks its scope and asks again what is due, so each tick is carried out
by one of them. Registries are asked about tags before a unit of work begins, never inside. Between a commit and its
effects a process may die; the image is PENDING by then, and the sweep at the next start enqueues it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence, Set
from datetime import datetime, timedelta
from itertools import groupby
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from imagesmith.artifacts.tags import LookUpTags, TagState
from imagesmith.resources.call import Call, Effect
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.service import Service
from imagesmith.schedule.cascade import dependents, follow
from imagesmith.schedule.effects import Effects
from imagesmith.schedule.rearm import rearm_all
from imagesmith.schedule.start_condition import moving_tag
from imagesmith.schedule.tick import Fired, fire_all
from imagesmith.store import cascades, queries, schedules
from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.events import forget_events_before
from imagesmith.store.schedules import DuePipeline
from imagesmith.values.arn import Arn

_log = logging.getLogger(__name__)

_BATCH = 100
"""Pipelines per unit of work: callers of the same scope wait no longer than that takes."""

_LONGEST_SLEEP = 5.0
"""Seconds. Another server may arm a pipeline, and the clock may be set, without waking this process."""

_SHORTEST_SLEEP = 0.01
_LONGEST_PAUSE = 60.0
_CLOCK_BACK = timedelta(seconds=30)
"""A clock that goes back further than this was set; fire times computed in its future are computed again."""

_KEPT = timedelta(days=90)
"""How long it is remembered which instants were run, and which events there were."""

_AVOIDED = timedelta(minutes=5)
"""How long a pipeline whose tick failed unexpectedly is left alone, so that it does not hold up the others."""

Done = TypeVar("Done")

Scope = tuple[str, str, str]
"""Account, region and partition: whom a unit of work acts for."""


class Scheduler:
    """Fires pipelines; `tick` does one round, `start` keeps doing it in a thread of its own."""

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
        """`look_up_tags`: given when a registry tag that moved is an update; `cascade`: see schedule.cascade."""
        self._service = service
        self._database = database
        self._clock = clock
        self._batch = batch
        self._look_up_tags = look_up_tags
        self._tags: dict[str, TagState] = {}
        self._cascade = cascade
        self._latest: datetime | None = None
        self._effects = Effects()
        self._avoided: dict[str, datetime] = {}
        self._wake = threading.Event()
        self._asleep_until: datetime | None = None
        """Until when the thread sleeps unless it is woken; None while it looks, or may be about to."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def wake(self, next_fire: datetime) -> None:
        """A schedule that fires at `next_fire` was armed, and is committed.

        Most fire long after the thread looks again by itself; waking it for each would make every update of a
        pipeline a tick.
        """
        until = self._asleep_until
        if until is None or next_fire < until:
            self._wake.set()

    def close(self, *, patience_seconds: float = 30) -> None:
        """Stop after the unit of work that runs."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(patience_seconds)
            self._thread = None

    def recompute(self) -> None:
        """What a start does first: zone rules may have changed while no server ran. Raises StoreUnavailable."""
        with self._database.write("schedules") as tx:
            schedules.forget_runs_before(tx, self._clock() - _KEPT)
            forget_events_before(tx, self._clock() - _KEPT)
        rearm_all(self._database, now=self._clock, stop=self._stopping.is_set)

    def tick(self) -> list[Fired]:
        """Fire everything that is due, in batches, effects included. Raises StoreUnavailable."""
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
        self._avoided = {arn: until for arn, until in self._avoided.items() if until > now}
        self._tags.clear()
        fired: list[Fired] = []
        while not self._stopping.is_set():
            due, images = self._look(now)
            if not due and not images:
                break
            for scope, group in groupby(sorted(due, key=_scope), key=_scope):
                fired += self._fire_scope(scope, [item.pipeline_arn for item in group], now)
            for image_arn in images:
                self._follow(image_arn, now)
        return fired

    def _look(self, now: datetime) -> tuple[list[DuePipeline], list[str]]:
        """The next pipelines that are due, and images that became AVAILABLE."""
        most = self._batch + len(self._avoided)
        with self._database.read() as tx:
            due, images = schedules.due(tx, now, most), cascades.waiting_cascades(tx, most)
        return (
            [item for item in due if item.pipeline_arn not in self._avoided][: self._batch],
            [arn for arn in images if arn not in self._avoided][: self._batch],
        )

    def _fire_scope(self, scope: Scope, arns: Sequence[str], now: datetime) -> list[Fired]:
        """One batch; when it fails, each of it alone, so that one bad pipeline stops no other."""
        try:
            return self._fire_batch(scope, arns)
        except Exception as error:
            if _is_outage(error):
                raise
            _log.exception("a batch of %d ticks failed; each is tried alone", len(arns))
        fired: list[Fired] = []
        for arn in arns:
            try:
                fired += self._fire_batch(scope, [arn])
            except Exception as error:
                if _is_outage(error):
                    raise
                _log.error("the tick of %s failed and is tried again in %s: %r", arn, _AVOIDED, error)
                self._avoided[arn] = now + _AVOIDED
        return fired

    def _fire_batch(self, scope: Scope, arns: Sequence[str]) -> list[Fired]:
        """Those that wait for the answer of a registry come last."""
        tags = self._moving_tags(scope, arns)
        at_once = [arn for arn in arns if arn not in tags]
        fired = self._unit(scope, lambda call: fire_all(call, at_once)) if at_once else []
        if tags:
            self._read_tags(set(tags.values()))
            if not self._stopping.is_set():
                fired += self._unit(scope, lambda call: fire_all(call, list(tags), tags=self._tags))
        return fired

    def _unit(self, scope: Scope, carry_out: Callable[[Call], list[Done]]) -> list[Done]:
        """One unit of work, then its effects."""
        effects: list[Effect] = []

        def work(call: Call) -> list[Done]:
            done = carry_out(call)
            effects.extend(call.effects)
            # begun below instead, where one that fails does not lose the others
            call.effects.clear()
            return done

        done: list[Done] = self._service.scoped("ScheduledRun", _caller(scope), work)
        self._effects.begin(effects)
        return done

    def _moving_tags(self, scope: Scope, arns: Sequence[str]) -> dict[str, str]:
        """Pipeline -> the registry tag that its condition depends on."""
        if self._look_up_tags is None:
            return {}

        def work(call: Call) -> dict[str, str]:
            documents = queries.documents(call.tx, arns)
            return {arn: moving_tag(call, documents[arn]) for arn in arns if arn in documents}

        found: dict[str, str] = self._service.reading("ScheduledRun", _caller(scope), work)
        return {arn: tag for arn, tag in found.items() if tag}

    def _read_tags(self, tags: Set[str]) -> None:
        """Ask for those that this tick does not know yet."""
        missing = tags - self._tags.keys()
        if self._look_up_tags is not None and missing:
            self._tags.update(self._look_up_tags(missing))

    def _follow(self, image_arn: str, now: datetime) -> None:
        """Start what is built on an image that became AVAILABLE; one that fails waits and stops no other."""
        try:
            self._start_dependents(image_arn)
        except Exception as error:
            if _is_outage(error):
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

    def _run(self) -> None:
        pause = 1.0
        recomputed = False
        while not self._stopping.is_set():
            # before the database is read: what is committed after that finds None or the answer
            self._asleep_until = None
            try:
                if not recomputed:
                    self.recompute()
                    recomputed = True
                self.tick()
                delay, pause = self._delay(), 1.0
            except Exception as error:
                quiet = _is_outage(error)
                _log.error("the scheduler pauses for %.0f s: %s", pause, error, exc_info=not quiet)
                delay, pause = pause, min(pause * 2, _LONGEST_PAUSE)
            self._asleep_until = self._clock() + timedelta(seconds=delay)
            self._wake.wait(delay)
            self._wake.clear()

    def _delay(self) -> float:
        """Seconds to sleep: what was due at the last tick is done, or must wait."""
        assert self._latest is not None
        with self._database.read() as tx:
            following = schedules.earliest_after(tx, self._latest)
        if following is None:
            return _LONGEST_SLEEP
        return min(max((following - self._clock()).total_seconds(), _SHORTEST_SLEEP), _LONGEST_SLEEP)


def _is_outage(error: Exception) -> bool:
    """Whether the database is the problem, and not one pipeline's record."""
    return isinstance(error, StoreUnavailable) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _caller(scope: Scope) -> Caller:
    """Whoever acts for the clock in a scope."""
    account, region, partition = scope
    return Caller(account, region, f"arn:{partition}:iam::{account}:root", "", partition)


def _scope(due: DuePipeline) -> Scope:
    return due.account, due.region, due.pipeline_arn.split(":", 2)[1]
