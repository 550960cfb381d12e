"""The states of an image as they happen, and what a finished run means for its pipeline (spec/api.md 5.1).

    PENDING -> CREATING -> BUILDING -> TESTING -> DISTRIBUTING -> AVAILABLE
       any of them -> FAILED (reason, failureContext) | CANCELLED

Every move is one transaction that checks the state it leaves, so a step that runs again after a crash finds its
move done and changes nothing, and a cancel that came in between is never overwritten.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy.engine import Connection

from imagesmith.events.messages import pipeline_disabled
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store import queries, schedules
from imagesmith.store.cascades import put_cascade
from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.events import put_event
from imagesmith.store.findings import put_findings
from imagesmith.store.records import Build, Record
from imagesmith.store.runs import retry_numbers
from imagesmith.values.final_states import FINAL
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.run_counts import Result, RunEffect, Trigger, after_run, failure_limit
from imagesmith.workflows.journal import retry_key
from imagesmith.workflows.retry import Retry

_SCANNING = frozenset({"PENDING", "SCANNING", "COLLECTING"})
"""Scan states that nobody would ever move on once the image has ended."""

_REASON_LIMIT = 1024
"""Longest reason that is stored; the log has the rest."""


@dataclass(frozen=True)
class Failure:
    """Why a run failed: the sentence users see and the failureContext of the API."""

    reason: str
    context: Mapping[str, Any]


TellPipeline = Callable[[Record, str], None]
"""(pipeline, line of its log)."""


class Records:
    """Reads plans and writes states; `tell_pipeline` hears how runs ended, after the commit."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], *, tell_pipeline: TellPipeline | None = None
    ) -> None:
        self.database = database
        self._clock = clock
        self._tell_pipeline = tell_pipeline

    def on(self, database: Database) -> Records:
        """These records, written through another view of the database."""
        other = copy.copy(self)
        other.database = database
        return other

    def plan(self, image_arn: str) -> BuildPlan | None:
        """The plan of a build; None when its image was deleted."""
        with self.database.read() as tx:
            build = queries.get_build(tx, image_arn)
        return None if build is None else BuildPlan.from_json(build.plan)

    def build(self, image_arn: str) -> Build | None:
        """What a run obeys and what came of it; None when its image was deleted."""
        with self.database.read() as tx:
            return queries.get_build(tx, image_arn)

    def is_running(self, image_arn: str, number: int) -> bool:
        """Whether the image has not ended, and its run is still the one with this number (workflows/retry.py)."""
        with self.database.read() as tx:
            record, build = queries.get(tx, image_arn), queries.get_build(tx, image_arn)
        if record is None or build is None or record.status in FINAL:
            return False
        return Retry.of(build.outcome).number == number

    def outcome(self, image_arn: str) -> Mapping[str, Any]:
        with self.database.read() as tx:
            build = queries.get_build(tx, image_arn)
        return {} if build is None else build.outcome

    def note(self, image_arn: str, **changes: Any) -> None:
        """Keep facts of the run: digest, size, stage times."""
        with self._scope(image_arn) as tx:
            queries.update_outcome(tx, image_arn, changes)

    def count_attempt(self, image_arn: str, name: str) -> int:
        """How often a piece of work was begun, this time included."""
        with self._scope(image_arn) as tx:
            return self._add_attempt(tx, image_arn, name, 1)

    def uncount_attempt(self, image_arn: str, name: str) -> None:
        """An orderly stop of the server ended the work; that does not use up one of its attempts."""
        with contextlib.suppress(StoreUnavailable), self._scope(image_arn) as tx:
            self._add_attempt(tx, image_arn, name, -1)

    def _add_attempt(self, tx: Connection, image_arn: str, name: str, number: int) -> int:
        build = queries.get_build(tx, image_arn)
        attempts = dict(build.outcome.get("attempts", {})) if build else {}
        attempts[name] = int(attempts.get(name, 0)) + number
        queries.update_outcome(tx, image_arn, {"attempts": attempts})
        return int(attempts[name])

    def note_stages(self, image_arn: str, seconds: Mapping[str, float]) -> None:
        """Add to the times of parts of the run."""
        if seconds:
            with self._scope(image_arn) as tx:
                queries.add_stages(tx, image_arn, seconds)

    def put_inventory(self, image_arn: str, packages: list[dict[str, Any]], *, os_version: str) -> None:
        with self._scope(image_arn) as tx:
            queries.put_inventory(tx, image_arn, packages)
            record = queries.get(tx, image_arn)
            if record is not None and os_version:
                queries.replace(tx, replace(record, document={**record.document, "osVersion": os_version}))

    def set_scan_state(self, image_arn: str, status: str, reason: str = "") -> None:
        """Show how far the scan of an image is (spec/api.md 5.2)."""
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is not None and record.status not in FINAL:
                state = {"status": status} | ({"reason": _shortened(reason)} if reason else {})
                queries.replace(tx, replace(record, document={**record.document, "scanState": state}))

    def put_findings(self, image_arn: str, documents: Sequence[Mapping[str, Any]]) -> None:
        """Keep what a scan found, worst first, instead of what an earlier attempt found."""
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is not None:
                put_findings(
                    tx, image_arn, record.source, account=record.account, region=record.region,
                    observed=self._clock(), documents=documents,
                )  # fmt: skip

    def is_cancelled(self, image_arn: str) -> bool:
        """True when a cancel was asked for, or the image is gone."""
        with self.database.read() as tx:
            build = queries.get_build(tx, image_arn)
        return build is None or build.cancel_requested

    def move(self, image_arn: str, status: str) -> bool:
        """Enter the next state; False when the image is final or gone and the run must end."""
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is None or record.status in FINAL:
                return False
            self._write(tx, record, {"status": status})
            return True

    def finish(
        self,
        image_arn: str,
        status: str,
        *,
        failure: Failure | None = None,
        outputs: Mapping[str, Any] | None = None,
        number: int = 0,
    ) -> bool:
        """Enter a final state and let the pipeline know; False when the image was final already.

        `outputs` has the shape of outputResources. `number` is that of the run: a retry may have followed it.
        """
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is None or record.status in FINAL or self._number(tx, image_arn) != number:
                return False
            if status != "AVAILABLE":
                queries.update_outcome(tx, image_arn, {"ended_in": record.status})
            state: dict[str, Any] = {"status": status}
            if failure is not None:
                state["reason"] = _shortened(failure.reason)
                if failure.context:
                    state["failureContext"] = dict(failure.context)
            document = dict(record.document)
            if outputs is not None:
                document["outputResources"] = dict(outputs)
            if document.get("scanState", {}).get("status") in _SCANNING:
                document["scanState"] = {"status": "ABANDONED"}
            self._write(tx, replace(record, document=document), state)
            pipeline = queries.get(tx, record.source) if record.source else None
            effect = self._count(tx, record, status, pipeline) if pipeline is not None else None
        if pipeline is not None and effect is not None and self._tell_pipeline is not None:
            why = f" ({failure.reason})" if failure else ""
            self._tell_pipeline(pipeline, f"{image_arn} is {status}{why}; {effect.reason}")
        return True

    def pending(self) -> list[str]:
        """Keys of runs that wait for an engine, oldest first: the sweep at start-up (design.md, How data flows)."""
        unfinished = ("PENDING", "CREATING", "BUILDING", "TESTING", "DISTRIBUTING", "INTEGRATING")
        with self.database.read() as tx:
            found = [record.arn for record in queries.by_status(tx, "image", unfinished)]
            numbers = retry_numbers(tx, found)
        return [retry_key(image_arn, numbers.get(image_arn, 0)) for image_arn in found]

    def _number(self, tx: Connection, image_arn: str) -> int:
        build = queries.get_build(tx, image_arn)
        return Retry.of(build.outcome).number if build else 0

    def _scope(self, image_arn: str) -> Any:
        _, _, _, region, account, _ = image_arn.split(":")
        return self.database.write(f"{account}/{region}")

    def _write(self, tx: Connection, record: Record, state: Mapping[str, Any]) -> None:
        document = {**record.document, "state": dict(state)}
        queries.replace(tx, replace(record, document=document, status=state["status"]))
        pipeline = queries.get(tx, record.source) if record.source else None
        newest = queries.newest_of_source(tx, record.source) if pipeline else None
        if pipeline is not None and newest is not None and newest.arn == record.arn:
            changed = {**pipeline.document, "lastRunStatus": state["status"]}
            queries.replace(tx, replace(pipeline, document=changed))

    def _count(self, tx: Connection, record: Record, status: str, pipeline: Record) -> RunEffect:
        build = queries.get_build(tx, record.arn)
        # a cascade starts a SCHEDULED run that is no run of the pipeline's own schedule
        other: Trigger = "event" if record.document.get("buildType") == "SCHEDULED" else "manual"
        trigger: Trigger = "schedule" if build and build.plan.get("scheduled") else other
        if build and Retry.of(build.outcome).number:
            trigger = "retry"
        result = cast("Result", status)
        stamp = iso_instant(self._clock())
        return count_run(tx, pipeline, result, trigger=trigger, stamp=stamp, image_arn=record.arn)


def count_run(
    tx: Connection, pipeline: Record, result: Result, *, trigger: Trigger, stamp: str, image_arn: str = ""
) -> RunEffect:
    """Write what a run's end means for its pipeline, and for those that build on its image.

    A pipeline that is disabled is no longer armed, and an event tells it.
    """
    document = dict(pipeline.document)
    schedule = document.get("schedule")
    effect = after_run(
        int(document.get("consecutiveFailures", 0)), result,
        trigger=trigger,
        enabled=document.get("status") == "ENABLED",
        limit=failure_limit(
            (schedule or {}).get("autoDisablePolicy", {}).get("failureCount"), has_schedule=schedule is not None
        ),
    )  # fmt: skip
    document["consecutiveFailures"] = effect.consecutive_failures
    if effect.disable:
        document |= {"status": "DISABLED", "dateUpdated": stamp}
        schedules.disarm(tx, [pipeline.arn])
        put_event(tx, pipeline_disabled(pipeline, effect.consecutive_failures, moment=parse_instant(stamp)))
    if result == "AVAILABLE" and image_arn:
        put_cascade(tx, image_arn, parse_instant(stamp))
    if document != pipeline.document:
        queries.replace(tx, replace(pipeline, document=document, status=document.get("status", "")))
    return effect


def _shortened(text: str) -> str:
    if len(text) <= _REASON_LIMIT:
        return text
    return text[: _REASON_LIMIT - 40].rstrip() + " ... (the build log has the rest)"
