"""Records of images: their states (spec/api.md 5.1).

    PENDING -> CREATING -> BUILDING -> TESTING -> DISTRIBUTING -> AVAILABLE
       any of them -> FAILED (reason, failureContext) | CANCELLED

Every move is one transaction that checks the current state, so a step that runs again after a crash finds its move
done and changes nothing, and a cancel in between is never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.builds.image_states import enter_state
from imagesmith.builds.journal import retry_key
from imagesmith.builds.pipeline_counts import count_run
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store import queries, stored_builds
from imagesmith.store.database import Database
from imagesmith.store.patience import persistent
from imagesmith.store.records import Build, Record
from imagesmith.store.runs import retry_numbers
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant, shortened_reason
from imagesmith.values.run_counts import RunEffect, Trigger
from imagesmith.values.states import (
    FINAL_IMAGE,
    UNFINISHED_IMAGE,
    UNFINISHED_SCAN,
    ImageStatus,
    ScanStatus,
)


@dataclass(frozen=True)
class ImageFailure:
    """The failure of a run: the reason for users and the failureContext of the API."""

    reason: str
    context: Mapping[str, Any]

    def to_json(self) -> Mapping[str, Any]:
        """Members of the state of an image."""
        context = {"failureContext": dict(self.context)} if self.context else {}
        return {"reason": shortened_reason(self.reason), **context}


LogRun = Callable[[Record, str], None]
"""(pipeline, line of its log)."""


class ImageRecords:
    """Reads plans and writes states; `log_run` is called after the commit with the outcome of a run."""

    def __init__(self, database: Database, clock: Callable[[], datetime], *, log_run: LogRun | None = None) -> None:
        self.database = database
        self._clock = clock
        self._log_run = log_run

    def with_database(self, database: Database) -> ImageRecords:
        """These records through another view of the database."""
        return ImageRecords(database, self._clock, log_run=self._log_run)

    @persistent
    def plan(self, image_arn: str) -> BuildPlan | None:
        """The plan of a build; None if its image was deleted."""
        with self.database.read() as tx:
            build = stored_builds.get_build(tx, image_arn)
        return None if build is None else BuildPlan.from_json(build.plan)

    @persistent
    def build(self, image_arn: str) -> Build | None:
        """The plan and the outcome of a build; None if its image was deleted."""
        with self.database.read() as tx:
            return stored_builds.get_build(tx, image_arn)

    @persistent
    def is_running(self, image_arn: str, number: int) -> bool:
        """Whether the image has not ended and its latest run has this number (builds/retry.py)."""
        with self.database.read() as tx:
            record, build = queries.get(tx, image_arn), stored_builds.get_build(tx, image_arn)
        if record is None or build is None or record.status in FINAL_IMAGE:
            return False
        return build.outcome.retry.number == number

    @persistent
    def is_cancelled(self, image_arn: str) -> bool:
        """Whether a cancel was requested, or the image is gone."""
        with self.database.read() as tx:
            build = stored_builds.get_build(tx, image_arn)
        return build is None or build.cancel_requested

    @persistent
    def move(self, image_arn: str, status: ImageStatus) -> bool:
        """Enter the next state; returns False if the image is final or gone and the run must end."""
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is None or record.status in FINAL_IMAGE:
                return False
            enter_state(tx, record, {"status": status}, moment=self._clock())
            return True

    @persistent
    def finish(
        self,
        image_arn: str,
        status: ImageStatus,
        *,
        failure: ImageFailure | None = None,
        outputs: Mapping[str, Any] | None = None,
        number: int = 0,
    ) -> bool:
        """Enter a final state and update the pipeline; returns False if the image was final already.

        `outputs` has the shape of outputResources. `number` is the run's number: a retry may have followed the run.
        """
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is None or record.status in FINAL_IMAGE or self._number(tx, image_arn) != number:
                return False
            if status != ImageStatus.AVAILABLE:
                ended_in = record.status
                stored_builds.change_outcome(tx, image_arn, lambda outcome: replace(outcome, ended_in=ended_in))
            state = {"status": status, **(failure.to_json() if failure is not None else {})}
            document = dict(record.document)
            if outputs is not None:
                document["outputResources"] = dict(outputs)
            if document.get("scanState", {}).get("status") in UNFINISHED_SCAN:
                document["scanState"] = {"status": ScanStatus.ABANDONED}
            enter_state(tx, replace(record, document=document), state, moment=self._clock())
            pipeline = queries.get(tx, record.source) if record.source else None
            effect = self._count(tx, record, status, pipeline) if pipeline is not None else None
        if pipeline is not None and effect is not None and self._log_run is not None:
            why = f" ({failure.reason})" if failure else ""
            self._log_run(pipeline, f"{image_arn} is {status}{why}; {effect.reason}")
        return True

    @persistent
    def pending(self) -> list[str]:
        """Keys of runs that wait for an engine, oldest first; a start enqueues them (docs/design.md)."""
        with self.database.read() as tx:
            found = [record.arn for record in queries.by_status(tx, "image", UNFINISHED_IMAGE)]
            numbers = retry_numbers(tx, found)
        return [retry_key(image_arn, numbers.get(image_arn, 0)) for image_arn in found]

    def _number(self, tx: Connection, image_arn: str) -> int:
        build = stored_builds.get_build(tx, image_arn)
        return build.outcome.retry.number if build else 0

    def _scope(self, image_arn: str) -> AbstractContextManager[Connection]:
        return self.database.write(Arn.parse(image_arn).scope)

    def _count(self, tx: Connection, record: Record, status: ImageStatus, pipeline: Record) -> RunEffect:
        build = stored_builds.get_build(tx, record.arn)
        # a cascade starts a SCHEDULED run that does not belong to the pipeline's own schedule
        other: Trigger = "event" if record.document.get("buildType") == "SCHEDULED" else "manual"
        trigger: Trigger = "schedule" if build and build.plan.get("scheduled") else other
        if build and build.outcome.retry.number:
            trigger = "retry"
        stamp = iso_instant(self._clock())
        return count_run(tx, pipeline, status, trigger=trigger, stamp=stamp, image_arn=record.arn)
