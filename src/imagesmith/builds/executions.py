"""Records of workflow executions for users (spec/workflows.md 6.1, 10).

    workflow   PENDING -> RUNNING -> COMPLETED | FAILED | ROLLBACK_IN_PROGRESS -> ROLLBACK_COMPLETED
                                   | CANCELLED | SKIPPED
    step       PENDING -> RUNNING | WAITING -> COMPLETED | FAILED | SKIPPED | CANCELLED

Every change is one transaction that checks the current state. The end of a step is stored with its result, so a
step that ended but was not journalled is not repeated.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.builds.new_attempts import inherited_state, new_step_state, with_answers
from imagesmith.events.messages import step_waiting
from imagesmith.recipes.plan import PlannedWorkflow
from imagesmith.store import executions, stored_builds
from imagesmith.store.build_outcome import BuildUpdate
from imagesmith.store.database import Database
from imagesmith.store.events import put_event
from imagesmith.store.execution_state import ExecutionState, PartStart
from imagesmith.store.executions import StepExecution, WorkflowExecution
from imagesmith.store.patience import CountOnce, persistent
from imagesmith.store.records import microseconds
from imagesmith.store.step_state import MESSAGE_LIMIT, WorkflowStepResult
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import (
    FINAL_EXECUTION,
    FINAL_STEP,
    ExecutionStatus,
    RollbackStatus,
    StepStatus,
    StepVerdict,
)
from imagesmith.workflow_documents.document import WorkflowDocument

_NEVER = 0


def execution_id(image_arn: str, name: str) -> str:
    """`wf-<uuid>`, the same for each repetition of the same workflow of this image."""
    return f"wf-{uuid.uuid5(uuid.NAMESPACE_URL, f'{image_arn}#{name}')}"


def step_id(execution: str, name: str) -> str:
    return f"step-{uuid.uuid5(uuid.NAMESPACE_URL, f'{execution}#{name}')}"


def is_cancelled(tx: Connection, image_arn: str, execution_id: str) -> bool:
    """Whether a cancel of the image or of the run was requested, or either is gone."""
    build = stored_builds.get_build(tx, image_arn)
    if build is None or build.cancel_requested:
        return True
    execution = executions.get_execution(tx, execution_id)
    return execution is None or execution.state.cancel_requested


@dataclass(frozen=True)
class Begun:
    """The start of a step: the number of its attempts, and its result if it ended already."""

    times: int = 1
    stopped: int = 0
    """How many attempts were ended by an orderly stop of the server."""
    cancelled: bool = False
    result: WorkflowStepResult | None = None


class ExecutionRecords:
    """Writes the records of an image's workflow executions and of their steps."""

    def __init__(self, database: Database, image_arn: str, clock: Callable[[], datetime]) -> None:
        self.database = database
        self._image_arn = image_arn
        self._arn = Arn.parse(image_arn)
        self._clock = clock

    @persistent
    def open(
        self,
        planned: PlannedWorkflow,
        document: WorkflowDocument,
        *,
        id: str,
        position: int,
        status: ExecutionStatus = ExecutionStatus.RUNNING,
        start: PartStart | None = None,
    ) -> None:
        """Write the records of a run and of its steps over those of an earlier attempt.

        `start` is the input of a part of a run.
        """
        now = iso_instant(self._clock())
        state = ExecutionState(
            workflow_arn=planned.arn, type=planned.type, start_time=now, start=start,
            end_time=now if status in FINAL_EXECUTION else "", parallel_group=planned.parallel_group,
        )  # fmt: skip
        step_status = StepStatus.SKIPPED if status == ExecutionStatus.SKIPPED else StepStatus.PENDING
        account, region = self._arn.owner, self._arn.region
        steps = [
            StepExecution(
                id=step_id(id, step.name), execution_id=id, image_arn=self._image_arn, account=account,
                region=region, position=number, status=step_status, started=_NEVER, state=new_step_state(step),
            )
            for number, step in enumerate(document.steps)
        ]  # fmt: skip
        with self._writing() as tx:
            earlier = executions.get_execution(tx, id)
            if earlier is not None and earlier.status in FINAL_EXECUTION:
                return
            if earlier is not None:
                state = inherited_state(state, earlier.state)
                steps = with_answers(steps, executions.steps_of(tx, id))
            execution = WorkflowExecution(
                id=id, image_arn=self._image_arn, account=account, region=region, position=position,
                status=status, state=state,
            )  # fmt: skip
            executions.put_execution(tx, execution, steps)

    def begin_step(self, id: str, *, inputs: Mapping[str, Any], seconds: float, waiting: str = "") -> Begun:
        """Enter RUNNING, unless the step ended already or the run is cancelled.

        With `waiting`, the key of the run to wake, enter WAITING, with a deadline.
        """
        return self._begin_step(id, inputs=inputs, seconds=seconds, waiting=waiting, count=CountOnce(1))

    @persistent
    def _begin_step(
        self, id: str, *, inputs: Mapping[str, Any], seconds: float, waiting: str, count: CountOnce
    ) -> Begun:
        now = self._clock()
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is None or is_cancelled(tx, self._image_arn, step.execution_id):
                return Begun(cancelled=True)
            known = step.state
            begun = Begun(count.after(known.begun), known.stopped, result=known.result)
            if begun.result is not None:
                return begun
            state = replace(
                known, inputs=json.dumps(inputs), timeout_seconds=int(seconds), start_time=iso_instant(now),
                begun=begun.times, run=waiting or known.run,
            )  # fmt: skip
            started = microseconds(now)
            if waiting and known.deadline is not None:
                # a wait that is repeated after a crash keeps its deadline
                started, state = step.started, replace(state, start_time=known.start_time)
            elif waiting:
                state = replace(state, deadline=microseconds(now + timedelta(seconds=seconds)))
                self._publish_waiting(tx, step, now)
            waits = waiting and known.answer is None
            status = StepStatus.WAITING if waits else StepStatus.RUNNING
            executions.update_step(tx, replace(step, status=status, started=started, state=state))
            return begun

    @persistent
    def end_step(
        self,
        id: str,
        result: WorkflowStepResult,
        *,
        stages: Mapping[str, float] | None = None,
        update: BuildUpdate | None = None,
    ) -> None:
        """Enter the final state of a result. `stages`: names and seconds for the image;
        `update`: further values of the build's outcome."""
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is None or step.status in FINAL_STEP:
                return
            self._end(tx, step, result)
            learned = update or BuildUpdate()
            if stages or learned != BuildUpdate():
                stored_builds.change_outcome(
                    tx, self._image_arn, lambda outcome: learned.added_to(outcome).with_stages(stages or {})
                )

    @persistent
    def skip_step(self, id: str, inputs: Mapping[str, Any]) -> None:
        """Record a step that does not run, with its inputs as written (spec/workflows.md 6.2)."""
        now = self._clock()
        stamp = iso_instant(now)
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is not None and step.status not in FINAL_STEP:
                result = WorkflowStepResult(status=StepVerdict.SKIPPED)
                state = replace(step.state, inputs=json.dumps(inputs), start_time=stamp).with_result(
                    result, end_time=stamp
                )
                skipped = replace(step, status=StepStatus.SKIPPED, started=microseconds(now), state=state)
                executions.update_step(tx, skipped)

    @persistent
    def note_stop(self, id: str) -> None:
        """Record that an orderly stop of the server ended the step, which does not use one of its attempts."""
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is not None:
                state = replace(step.state, stopped=step.state.stopped + 1)
                executions.update_step(tx, replace(step, state=state))

    @persistent
    def roll_back_steps(self, statuses: Mapping[str, RollbackStatus]) -> None:
        """Write rollbackStatus; `statuses`: step -> status."""
        with self._writing() as tx:
            for id, status in statuses.items():
                step = executions.get_step(tx, id)
                if step is not None:
                    state = replace(step.state, rollback_status=status)
                    executions.update_step(tx, replace(step, state=state))

    @persistent
    def set_status(
        self, id: str, status: ExecutionStatus, message: str = "", outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Set the state of a run that has not ended; final states get an end time. `outputs`: kept for a retry."""
        with self._writing() as tx:
            execution = executions.get_execution(tx, id)
            if execution is None or execution.status in FINAL_EXECUTION:
                return
            known = execution.state
            state = replace(
                known,
                end_time=iso_instant(self._clock()) if status in FINAL_EXECUTION else known.end_time,
                message=message[:MESSAGE_LIMIT] or known.message,
                outputs=known.outputs if outputs is None else outputs,
            )
            executions.update_execution(tx, replace(execution, status=status, state=state))

    def count_death(self, id: str) -> int:
        """Count a death of the server in a run; returns the number of deaths."""
        return self._count_death(id, CountOnce(1))

    @persistent
    def _count_death(self, id: str, count: CountOnce) -> int:
        with self._writing() as tx:
            execution = executions.get_execution(tx, id)
            if execution is None:
                return 0
            deaths = count.after(execution.state.deaths)
            executions.update_execution(tx, replace(execution, state=replace(execution.state, deaths=deaths)))
            return deaths

    @persistent
    def status(self, id: str) -> ExecutionStatus | None:
        """The state of a run; None before open()."""
        with self.database.read() as tx:
            execution = executions.get_execution(tx, id)
        return None if execution is None else execution.status

    @persistent
    def end_cancelled(self, only: str = "") -> None:
        """Set all runs and steps of the image, or of one run of it, that have not ended to CANCELLED
        (spec/workflows.md 11.1)."""
        cancelled = WorkflowStepResult(status=StepVerdict.CANCELLED)
        with self._writing() as tx:
            for execution in executions.executions_of(tx, self._image_arn):
                if execution.status in FINAL_EXECUTION or only not in ("", execution.id):
                    continue
                for step in executions.steps_of(tx, execution.id):
                    if step.status not in FINAL_STEP:
                        self._end(tx, step, cancelled)
                state = replace(execution.state, end_time=iso_instant(self._clock()))
                executions.update_execution(tx, replace(execution, status=ExecutionStatus.CANCELLED, state=state))

    def _end(self, tx: Connection, step: StepExecution, result: WorkflowStepResult) -> None:
        end_time = iso_instant(self._clock()) if step.started else ""
        state = step.state.with_result(result, end_time=end_time)
        if result.outputs:
            state = replace(state, outputs=json.dumps(result.outputs))
        executions.update_step(tx, replace(step, status=StepStatus(result.status), state=state))

    def _publish_waiting(self, tx: Connection, step: StepExecution, now: datetime) -> None:
        execution = executions.get_execution(tx, step.execution_id)
        if execution is not None:
            put_event(tx, step_waiting(step, execution.state.workflow_arn, moment=now))

    def _writing(self) -> AbstractContextManager[Connection]:
        return self.database.write(self._arn.scope)
