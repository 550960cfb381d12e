"""The common base of the run of an image and of the run of one of its parallel parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imagesmith.artifacts.storage import StorageError
from imagesmith.builds.attempts import Attempt, attempt
from imagesmith.builds.entries import Entry, entries_of
from imagesmith.builds.failures import StepFailed, explain
from imagesmith.builds.journal import Journal, retry_key
from imagesmith.builds.kind import Finish
from imagesmith.builds.kinds import build_kind
from imagesmith.builds.run import WorkflowRun
from imagesmith.builds.step_work import RunContext
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.failures import DistributionFailed
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.build_outcome import Retry
from imagesmith.store.execution_state import PartStart, WorkflowResult
from imagesmith.values.states import ExecutionStatus, ImageStatus

_log = logging.getLogger(__name__)


class RunBase:
    """One run of the engine: the tools and records of an image, and the execution of its stages."""

    def __init__(self, worker_context: WorkerContext, plan: BuildPlan, journal: Journal, retry: Retry) -> None:
        self.worker_context = worker_context
        self.plan = plan
        self.arn = plan.image_arn
        self.kind = build_kind(plan)
        self.journal = journal
        self.retry = retry
        self.key = retry_key(self.arn, retry.number)
        """The key of the image's run."""
        self.records = worker_context.records
        self.executions = worker_context.executions(plan.image_arn)
        self.messages = worker_context.messages(plan.image_arn)

    def entries(self) -> list[Entry]:
        """The workflows of the plan under the ids of this run. Raises StepFailed."""
        return entries_of(self.plan, self.retry)

    def workflow(
        self, entry: Entry, run_context: RunContext, finish: Sequence[tuple[str, Finish]] = ()
    ) -> WorkflowRun:
        return WorkflowRun(
            self.worker_context, self.plan, self.journal,
            planned=entry.planned, document=entry.document, parameters=entry.parameters,
            run_context=run_context, finish=finish,
        )  # fmt: skip

    def open(self, entry: Entry, status: ExecutionStatus, start: PartStart | None = None) -> None:
        """Write the records of a workflow that does not run yet, or not at all."""
        self.executions.open(
            entry.planned, entry.document, id=entry.id, position=entry.position, status=status, start=start
        )

    def enter(self, status: ImageStatus) -> None:
        """Move the image into a stage. Raises Cancelled if it has ended or its cancel was requested."""
        if self.records.is_cancelled(self.arn) or not self.records.move(self.arn, status):
            raise Cancelled

    def stage(self, name: str, status: ImageStatus, work: Callable[[Work], Mapping[str, Any]]) -> WorkflowResult:
        """Execute a stage without a document as one step of the journal; `work` returns members of its result."""

        def carry_out(cancellation: Cancellation) -> WorkflowResult:
            self.enter(status)
            tools, outcomes, seconds = self.worker_context, self.worker_context.outcomes, dict[str, float]()
            made = Attempt(outcomes.count_attempt(self.arn, name))
            with tools.log(self.arn) as log:

                def completed() -> WorkflowResult:
                    members = work(
                        Work(
                            worker_context=tools,
                            plan=self.plan,
                            log=log,
                            cancellation=cancellation,
                            seconds=seconds,
                            kind=self.kind,
                        )
                    )
                    return WorkflowResult(status=ExecutionStatus.COMPLETED, **members)

                result = attempt(
                    completed, made, "during this stage",
                    on_line=lambda text: log.line(name, text),
                    take_back=lambda: outcomes.uncount_attempt(self.arn, name),
                    refused=WorkflowResult.failed,
                    failed=lambda error: self._explained(name, error),
                )  # fmt: skip
            if result.ok:
                outcomes.note_stages(self.arn, seconds)
            return result

        return WorkflowResult.from_json(self.journal.step(name, lambda it: carry_out(it).to_json()))

    def _explained(self, name: str, error: Exception) -> WorkflowResult:
        if not isinstance(
            error, StepFailed | DistributionFailed | InstanceError | ProcessFailed | StorageError | OSError
        ):
            _log.error("stage %s of %s failed in an unexpected way", name, self.arn, exc_info=True)
        failure = explain(error, f"the {name} stage", free=self.worker_context.reserve.free)
        return WorkflowResult(
            status=ExecutionStatus.FAILED, reason=failure.reason, context=failure.context,
            containers=failure.containers,
        )  # fmt: skip
