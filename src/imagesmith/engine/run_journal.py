"""The journal of one run for its program: DBOS's steps, whose entries hold outcomes instead of exceptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from imagesmith.builds.journal import Json, Poll, Runs, Work, WorkFailed
from imagesmith.engine.dbos_import import DBOS, dbos_errors
from imagesmith.processes import Cancelled
from imagesmith.store.runs import Fence, FenceLost


class JournalUnavailable(BaseException):
    """The journal cannot be written or read. A BaseException: must not be caught by a program's failure handler."""


@dataclass(frozen=True)
class RunJournal:
    """Journal on DBOS. Its steps raise Cancelled, WorkFailed, JournalUnavailable, FenceLost."""

    runs: Runs
    fence: Fence | None
    do: Callable[[Work, bool], Json]
    """(work, whether a cancel ends it) -> {"result": ...}, {"cancelled": true} or {"error": "..."}."""
    poll: Callable[[str, Poll, float], Json]
    """The outcome of a named wait; raises instead while the run has to wait."""
    wait_for_store: Callable[[], None]
    """Waits a moment; raises when the run is to end in this process."""

    def pause(self) -> None:
        self.wait_for_store()

    def step(self, name: str, work: Work) -> Json:
        return _journalled(name, lambda: self.do(work, True))

    def finalize(self, name: str, work: Work) -> Json:
        return _journalled(name, lambda: self.do(work, False))

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        return _journalled(name, lambda: self.poll(name, poll, seconds))

    def start(self, key: str) -> None:
        self.runs.start(key)

    def cancel(self, key: str) -> None:
        self.runs.cancel(key)

    def wake(self, key: str) -> None:
        self.runs.wake(key)


def _journalled(name: str, action: Callable[[], Json]) -> Json:
    try:
        outcome: Json = DBOS.run_step({"name": name}, action)
    except sa.exc.SQLAlchemyError as error:
        raise JournalUnavailable(str(error)) from error
    except dbos_errors.DBOSWorkflowConflictIDError as error:
        raise FenceLost(f"another process took over this run: {error}") from error
    if "cancelled" in outcome:
        raise Cancelled
    if "error" in outcome:
        raise WorkFailed(outcome["error"])
    result: Json = outcome["result"]
    return result
