"""Parallel test workflows: the members of a parallel group are runs of their own (spec/workflows.md 7.3).

image's run --opens and starts--> part, part, ...    at most _AT_ONCE at a time
     ^                              |
     '-------- woken by its end ----'                 an abort or a cancel stops the running parts
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from imagesmith.artifacts.storage import StorageError
from imagesmith.builds.entries import Entry
from imagesmith.builds.journal import Journal, Json, child_key
from imagesmith.builds.run_base import RunBase
from imagesmith.builds.step_work import RunContext
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.build_outcome import Retry
from imagesmith.store.execution_state import PartStart, WorkflowResult
from imagesmith.store.outage import StoreAway, is_outage
from imagesmith.values.states import ExecutionStatus

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 5
_EVER: Final = 7 * 86400.0
"""Seconds for the timer of a wait for parts, whose own steps have limits."""


def units(tests: Sequence[Entry]) -> list[list[Entry]]:
    """Groups of test workflows that run in parallel, in the order of first appearance."""
    found: list[list[Entry]] = []
    groups: dict[str, list[Entry]] = {}
    for entry in tests:
        group = entry.planned.parallel_group
        if group and group in groups:
            groups[group].append(entry)
            continue
        found.append([entry])
        if group:
            groups[group] = found[-1]
    return found


def time_limit(plan: BuildPlan) -> str:
    """The failure of a test that did not end within the time for all tests."""
    return f"the tests did not end within timeoutMinutes ({plan.tests_timeout_minutes:g})"


def run_group(
    run: RunBase, unit: Sequence[Entry], outputs: dict[str, Any], digest: str, until: datetime
) -> list[WorkflowResult]:
    """Run the members of a parallel group as parts; an abort cancels the running parts. Raises Cancelled."""
    start = PartStart(outputs, digest, until)

    def poll(_: Cancellation) -> Json | None:
        return _supervise(run, unit, start)

    name = unit[0].planned.parallel_group
    ended: list[Json] = run.journal.wait(f"group {name}", poll, seconds=_EVER)["ended"]
    return _abort_first([WorkflowResult.from_json(item) for item in ended])


def _supervise(run: RunBase, unit: Sequence[Entry], start: PartStart) -> Json | None:
    """Start or cancel parts as needed; returns their results once all have ended."""
    opened = [entry for entry in unit if run.executions.status(entry.id)]
    results = {entry.id: run.messages.result(entry.id) for entry in opened}
    running = [entry for entry in opened if results[entry.id] is None]
    cancelled = run.records.is_cancelled(run.arn)
    aborted = any(
        result is not None and not result.ok and not entry.planned.continue_on_failure
        for entry, result in ((entry, results.get(entry.id)) for entry in unit)
    )
    if cancelled or aborted:
        run.messages.request_cancel([entry.id for entry in running])
        for entry in running:
            run.journal.cancel(child_key(run.arn, entry.id))
    else:
        waiting = [entry for entry in unit if entry not in opened][: _AT_ONCE - len(running)]
        for entry in waiting:
            run.open(entry, ExecutionStatus.PENDING, start)
        for entry in (*running, *waiting):
            run.journal.start(child_key(run.arn, entry.id))
        running += waiting
    if running:
        return None
    if cancelled:
        raise Cancelled
    cut_off = WorkflowResult(status=ExecutionStatus.CANCELLED)
    return {"ended": [(results.get(entry.id) or cut_off).to_json() for entry in unit]}


def _abort_first(ended: Sequence[WorkflowResult]) -> list[WorkflowResult]:
    """Replace the results of cancelled members by the first failure, which is the reason of the abort."""
    cancelled = ExecutionStatus.CANCELLED
    failed = next((item for item in ended if not item.ok and item.status != cancelled), None)
    if failed is None:
        return list(ended)
    return [failed if item.status == cancelled else item for item in ended]


class PartRun(RunBase):
    """The run of one member of a parallel group."""

    def __init__(
        self, worker_context: WorkerContext, plan: BuildPlan, journal: Journal, retry: Retry, id: str
    ) -> None:
        super().__init__(worker_context, plan, journal, retry)
        self._id = id

    def run(self) -> None:
        entry = next((item for item in self.entries() if item.id == self._id), None)
        if entry is None:
            return  # of a run that was followed by a retry
        start = self.messages.start(self._id)
        assert start is not None, "a part is opened before it is started"
        run_context = RunContext(
            id=self._id, position=entry.position, key=child_key(self.arn, self._id), workflow_outputs=start.outputs,
            digest=start.digest, until=start.until, limit=time_limit(self.plan),
        )  # fmt: skip
        try:
            ended = self.workflow(entry, run_context).run()
        except Cancelled:
            ended = WorkflowResult(status=ExecutionStatus.CANCELLED)
        except Exception as error:
            if is_outage(error):
                raise StoreAway(str(error)) from error
            _log.error("a part of %s failed in an unexpected way", self.arn, exc_info=True)
            ended = WorkflowResult.failed(f"the workflow failed in an unexpected way: {error}")
        self.journal.finalize("over", partial(self._leave, ended))

    def _leave(self, ended: WorkflowResult, _: Cancellation) -> Json:
        if ended.status == ExecutionStatus.CANCELLED:
            self.executions.end_cancelled(self._id)
            instances = self.worker_context.instances
            for known in instances.of(self.arn, self._id):
                try:
                    instances.terminate(known.id, image_arn=self.arn)
                except (StorageError, OSError) as error:
                    _log.warning("the instance %s stays until its image ends: %s", known.id, error)
        self.messages.keep_result(self._id, ended)
        self.journal.wake(self.key)
        return {}
