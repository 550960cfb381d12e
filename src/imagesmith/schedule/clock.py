"""The running clock: finds due pipelines, fires each in its scope, sleeps until the next.

    start --> recompute all --> [tick] --> sleep until the next fire time, at most a few seconds --> [tick] ...
                                  |                     ^ woken when a schedule is armed in this process
                                  v
              due rows, in batches --> one unit of work per scope: tick.fire for each --> effects (enqueue, logs)

Any number of servers may run one: a batch locks its scope and asks again what is due, so each tick is carried out
by one of them. Between a commit and its effects a process may die; the image is PENDING by then, and the sweep at
the next start enqueues it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy.exc import DBAPIError

from imagesmith.resources.call import Call, Effect
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.service import Service
from imagesmith.schedule.rearm import rearm_all
from imagesmith.schedule.tick import Fired, fire_all
from imagesmith.store import schedules
from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.schedules import DuePipeline

_log = logging.getLogger(__name__)

_BATCH = 50
"""Pipelines per unit of work: callers of the same scope wait no longer than that takes."""

_LONGEST_SLEEP = 5.0
"""Seconds. Another server may arm a pipeline, and the clock may be set, without waking this process."""

_SHORTEST_SLEEP = 0.01
_LONGEST_PAUSE = 60.0
_CLOCK_BACK = timedelta(seconds=30)
"""A clock that goes back further than this was set; fire times computed in its future are computed again."""

_KEPT_RUNS = timedelta(days=90)
"""How long it is remembered which instants were run."""

_AVOIDED = timedelta(minutes=5)
"""How long a pipeline whose tick failed unexpectedly is left alone, so that it does not hold up the others."""

Scope = tuple[str, str, str]
"""Account, region and partition: whom a unit of work acts for."""


class Scheduler:
    """Fires pipelines; `tick` does one round, `start` keeps doing it in a thread of its own."""

    def __init__(
        self, service: Service, database: Database, *, clock: Callable[[], datetime], batch: int = _BATCH
    ) -> None:
        self._service = service
        self._database = database
        self._clock = clock
        self._batch = batch
        self._latest: datetime | None = None
        self._failed_effects: deque[Effect] = deque()
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
            schedules.forget_runs_before(tx, self._clock() - _KEPT_RUNS)
        rearm_all(self._database, now=self._clock, stop=self._stopping.is_set)

    def tick(self) -> list[Fired]:
        """Fire everything that is due, in batches. Raises StoreUnavailable."""
        self._retry_effects()
        now = self._clock()
        if self._latest is not None and now < self._latest - _CLOCK_BACK:
            _log.warning("the clock went back from %s to %s", self._latest, now)
            rearm_all(self._database, now=self._clock, stop=self._stopping.is_set)
        self._latest = now
        self._avoided = {arn: until for arn, until in self._avoided.items() if until > now}
        fired: list[Fired] = []
        while not self._stopping.is_set():
            due = self._due(now)
            if not due:
                break
            for scope, group in groupby(sorted(due, key=_scope), key=_scope):
                fired += self._fire_scope(scope, [item.pipeline_arn for item in group], now)
        return fired

    def _due(self, now: datetime) -> list[DuePipeline]:
        with self._database.read() as tx:
            found = schedules.due(tx, now, self._batch + len(self._avoided))
        return [item for item in found if item.pipeline_arn not in self._avoided][: self._batch]

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
        effects: list[Effect] = []

        def work(call: Call) -> list[Fired]:
            fired = fire_all(call, arns)
            effects.extend(call.effects)
            # run below instead, where one that fails does not lose the others
            call.effects.clear()
            return fired

        account, region, partition = scope
        caller = Caller(account, region, f"arn:{partition}:iam::{account}:root", "", partition)
        fired: list[Fired] = self._service.scoped("ScheduledRun", caller, work)
        for effect in effects:
            self._carry_out(effect)
        return fired

    def _carry_out(self, effect: Effect) -> None:
        try:
            effect()
        except Exception:
            _log.warning("a build could not be enqueued; it is tried again at the next tick", exc_info=True)
            self._failed_effects.append(effect)

    def _retry_effects(self) -> None:
        for _ in range(len(self._failed_effects)):
            self._carry_out(self._failed_effects.popleft())

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


def _scope(due: DuePipeline) -> Scope:
    return due.account, due.region, due.pipeline_arn.split(":", 2)[1]
