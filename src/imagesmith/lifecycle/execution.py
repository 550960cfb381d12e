"""The run of a lifecycle execution (spec/api.md 5.5).

    select -> [wait for the time of an update] -> batch 0 -> batch 1 -> ... -> finish

Each is a step of the journal. What was selected are rows, and an image whose row has an outcome is not touched
again, so an execution that was interrupted continues where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection

from imagesmith.artifacts.layout_files import LayoutError
from imagesmith.artifacts.removals import removing_now
from imagesmith.builds.journal import Journal, Json
from imagesmith.builds.patience import RunPatience
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.lifecycle.candidates import selected_now
from imagesmith.lifecycle.decide import AFFECTED
from imagesmith.lifecycle.deletion import Deletion
from imagesmith.lifecycle.order import Order
from imagesmith.lifecycle.policy import LifecyclePolicy, Rule
from imagesmith.lifecycle.state_change import ChangedAmi, change_amis, change_state, set_image, target_status
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.store import lifecycle, queries
from imagesmith.store.database import Database
from imagesmith.store.lifecycle import LifecycleExecution, LifecycleResource
from imagesmith.store.outage import StoreAway, is_outage
from imagesmith.values.names import iso_instant
from imagesmith.values.states import LifecycleAction, LifecycleOutcome, LifecycleStatus

_log = logging.getLogger(__name__)

Value = TypeVar("Value")

_BATCH = 20
"""Images of one step of the journal."""


class LifecycleRuns:
    """The program of the engine for lifecycle executions; a run's key is the id of its execution."""

    def __init__(self, worker_context: WorkerContext) -> None:
        self._worker_context = worker_context

    def run(self, key: str, journal: Journal) -> None:
        patience = RunPatience(journal.pause, lambda line: _log.warning("%s: %s", key, line))
        database = self._worker_context.records.database.patient(patience)
        if journal.fence is not None:
            database = database.guarded(journal.fence.check)
        tools = replace(
            self._worker_context, records=self._worker_context.records.with_database(database),
            fence=journal.fence, patience=patience,
        )  # fmt: skip
        execution = database.query(lambda tx: lifecycle.get_execution(tx, key))
        if execution is not None:
            _Run(tools, execution, journal).run()


class _Run:
    def __init__(self, worker_context: WorkerContext, execution: LifecycleExecution, journal: Journal) -> None:
        self._worker_context = worker_context
        self._execution = execution
        self._order = Order.from_json(execution.document)
        self._journal = journal

    @property
    def _database(self) -> Database:
        return self._worker_context.records.database

    @property
    def _id(self) -> str:
        return self._execution.id

    def run(self) -> None:
        problem = ""
        try:
            begun = self._journal.step("select", self._select)
            if begun["seconds"] > 0:
                # a timer that fires a moment early would find the wait not over, and there is only one timer
                self._journal.wait("time of the update", self._is_time, seconds=begun["seconds"] + 1.0)
            number = 0
            # a cancel ends no action: each image of a batch looks for it in the store
            while self._journal.finalize(f"batch {number}", self._batch)["left"]:
                number += 1
        except Cancelled:
            pass
        except Exception as error:
            if is_outage(error):
                raise StoreAway(str(error)) from error
            _log.error("the lifecycle execution %s failed in an unexpected way", self._id, exc_info=True)
            problem = f"The execution failed in an unexpected way: {error}"
        self._journal.finalize("finish", partial(self._finish, problem))

    # Selection

    def _select(self, _: Cancellation) -> Json:
        """Write the selected images; repeated, it writes the same execution's rows only once."""
        now = self._worker_context.clock()

        def select(tx: Connection) -> float:
            if not lifecycle.list_resources(tx, self._id, limit=1):
                lifecycle.add_resources(tx, self._selected(tx, now))
            moment = self._order.update.moment if self._order.update else None
            if moment is None:
                return 0.0
            self._announce(tx, moment, now)
            lifecycle.set_status(tx, self._id, LifecycleStatus.PENDING)
            return max((moment - now).total_seconds(), 0.001)

        return {"seconds": self._change(select)}

    def _selected(self, tx: Connection, now: datetime) -> list[LifecycleResource]:
        update, account, region = self._order.update, self._execution.account, self._execution.region
        if update is not None:
            return [self._row(0, update.image_arn, update.rule, rule=0, now=now)]
        policy = LifecyclePolicy.from_document(self._order.policy)
        found = selected_now(tx, account, region, policy, now=now)
        return [
            self._row(index, item.arn, item.rule, rule=policy.rules.index(item.rule), now=now)
            for index, item in enumerate(found)
        ]

    def _row(self, position: int, arn: str, of: Rule, *, rule: int, now: datetime) -> LifecycleResource:
        return LifecycleResource(
            execution_id=self._id, resource_id=arn, position=position, status=LifecycleOutcome.IN_PROGRESS,
            document={
                "action": of.action, "rule": rule, "account": self._execution.account,
                "region": self._execution.region, "startTime": iso_instant(now),
            },
        )  # fmt: skip

    def _announce(self, tx: Connection, moment: datetime, now: datetime) -> None:
        """Show a later deprecation on the image, and set it on its AMIs at once."""
        assert self._order.update is not None
        image = queries.get(tx, self._order.update.image_arn)
        if image is not None:
            rule = self._order.update.rule
            set_image(tx, image, image.document, rule.action, deprecated_at=moment, execution_id=self._id)
            change_amis(tx, image, rule, now=now, deprecated_at=moment)

    def _is_time(self, _: Cancellation) -> Json | None:
        """Whether the time of the update has come. Raises Cancelled."""
        assert self._order.update is not None
        moment = self._order.update.moment

        def begin(tx: Connection) -> Json | None:
            if self._is_cancelled(tx):
                raise Cancelled
            if moment is not None and self._worker_context.clock() < moment:
                return None
            lifecycle.set_status(tx, self._id, LifecycleStatus.IN_PROGRESS)
            return {}

        return self._change(begin)

    # Images

    def _batch(self, cancellation: Cancellation) -> Json:
        """Do the next images. Raises Cancelled between two; `cancellation` is requested if the process stops."""
        rows = self._database.query(lambda tx: lifecycle.next_resources(tx, self._id, _BATCH))
        for row in rows:
            cancellation.check()
            if self._database.query(self._is_cancelled):
                raise Cancelled
            self._carry_out(row, cancellation)
        return {"left": len(rows)}

    def _carry_out(self, row: LifecycleResource, cancellation: Cancellation) -> None:
        rule = self._order.rules[row.document["rule"]]
        deletion = Deletion(self._worker_context, row, rule, self._order.role)
        try:
            if rule.action is LifecycleAction.DELETE:
                deletion.carry_out(cancellation)
            else:
                self._change(lambda tx: self._change_state(tx, row, rule))
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("the action on %s failed", row.resource_id)
            deletion.give_up(f"{type(error).__name__}: {error}")

    def _change_state(self, tx: Connection, row: LifecycleResource, rule: Rule) -> None:
        """Change an image and its AMIs, and write the outcome, in one transaction."""
        image, now = queries.get(tx, row.resource_id), self._worker_context.clock()
        if image is None or image.status == target_status(rule.action):
            lifecycle.put_resource(tx, self._ended(row, LifecycleOutcome.SUCCESS))
            return
        if image.status not in AFFECTED[rule.action]:
            lifecycle.put_resource(tx, self._ended(row, LifecycleOutcome.SKIPPED, f"The image is {image.status}."))
            return
        for index, changed in enumerate(change_state(tx, image, rule, now=now, execution_id=self._id)):
            lifecycle.put_resource(tx, self._ami_row(row, index, changed))
        lifecycle.put_resource(tx, self._ended(row, LifecycleOutcome.SUCCESS))

    def _ami_row(self, row: LifecycleResource, index: int, changed: ChangedAmi) -> LifecycleResource:
        ami = changed.ami
        below = replace(
            row, parent_id=row.resource_id, resource_id=ami.ami_id, position=index,
            document={**row.document, "account": ami.account, "region": ami.region},
        )  # fmt: skip
        return self._ended(below, changed.outcome, changed.reason)

    # End

    def _finish(self, problem: str, _: Cancellation) -> Json:
        def finish(tx: Connection) -> bool:
            now, counts = self._worker_context.clock(), lifecycle.count_outcomes(tx, self._id)
            cancelled = self._is_cancelled(tx)
            if counts.get(LifecycleOutcome.IN_PROGRESS):
                self._skip_rest(tx, problem or "The execution was cancelled.")
            failed = counts.get(LifecycleOutcome.FAILED, 0)
            status = LifecycleStatus.FAILED if failed or problem else LifecycleStatus.SUCCESS
            reason = problem or (f"{failed} of {sum(counts.values())} resources failed." if failed else "")
            if cancelled:
                status, reason = LifecycleStatus.CANCELLED, ""
            lifecycle.set_status(tx, self._id, status, ended=now, reason=reason)
            return any(rule.action is LifecycleAction.DELETE for rule in self._order.rules)

        if self._change(finish):
            try:
                with removing_now(self._worker_context.settings.data_dir) as possible:
                    if possible:
                        self._worker_context.layout.collect_garbage()
            except (OSError, LayoutError) as error:
                _log.warning("the blobs of deleted images are removed at the next start: %s", error)
        return {}

    def _skip_rest(self, tx: Connection, reason: str) -> None:
        while rows := lifecycle.next_resources(tx, self._id, 500):
            for row in rows:
                lifecycle.put_resource(tx, self._ended(row, LifecycleOutcome.SKIPPED, reason))

    def _is_cancelled(self, tx: Connection) -> bool:
        found = lifecycle.get_execution(tx, self._id)
        return found is None or found.status is LifecycleStatus.CANCELLING

    def _ended(self, row: LifecycleResource, outcome: LifecycleOutcome, reason: str = "") -> LifecycleResource:
        ended = {"reason": reason, "endTime": iso_instant(self._worker_context.clock())}
        return replace(row, status=outcome, document={**row.document, **ended})

    def _change(self, action: Callable[[Connection], Value]) -> Value:
        scope = f"{self._execution.account}/{self._execution.region}"
        return self._database.change(scope, action)
