"""The journal of one run, as its program sees it: DBOS's steps, with outcomes instead of exceptions inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from dbos import DBOS
from dbos import error as dbos_errors

from imagesmith.processes import Cancelled
from imagesmith.store.runs import Fence, FenceLost
from imagesmith.workflows.journal import Json, Poll, Runs, Work, WorkFailed


class JournalUnavailable(BaseException):
    """The journal cannot be written or read. A BaseException: a program that explains failures must not keep it."""


@dataclass(frozen=True)
class RunJournal:
    """A Journal. Its steps raise Cancelled, WorkFailed, JournalUnavailable, FenceLost."""

    engine: Runs
    fence: Fence | None
    do: Callable[[Work, bool], Json]
    """The outcome of a step: {"result": ...}, {"cancelled": true} or {"error": "..."}; whether a cancel ends it."""
    poll: Callable[[str, Poll, float], Json]
    """The outcome of a wait with a name; does not return while there is nothing to do."""

    def step(self, name: str, work: Work) -> Json:
        return _journalled(name, lambda: self.do(work, True))

    def conclude(self, name: str, work: Work) -> Json:
        return _journalled(name, lambda: self.do(work, False))

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        return _journalled(name, lambda: self.poll(name, poll, seconds))

    def start(self, key: str) -> None:
        self.engine.start(key)

    def cancel(self, key: str) -> None:
        self.engine.cancel(key)

    def wake(self, key: str) -> None:
        self.engine.wake(key)


def _journalled(name: str, action: Callable[[], Json]) -> Json:
    try:
        outcome: Json = DBOS.run_step({"name": name}, action)
    except sa.exc.DBAPIError as error:
        raise JournalUnavailable(str(error)) from error
    except dbos_errors.DBOSWorkflowConflictIDError as error:
        raise FenceLost(f"another process goes on with this run: {error}") from error
    if "cancelled" in outcome:
        raise Cancelled
    if "error" in outcome:
        raise WorkFailed(outcome["error"])
    result: Json = outcome["result"]
    return result
