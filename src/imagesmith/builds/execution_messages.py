"""Messages between the runs of an image and from users: outputs, results, cancels, answers.

The records of the runs hold them (executions.py), so that they outlive the process that wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.builds.executions import is_cancelled
from imagesmith.store import executions
from imagesmith.store.database import Database
from imagesmith.store.execution_state import PartStart, WorkflowResult
from imagesmith.store.executions import WorkflowExecution
from imagesmith.store.patience import persistent
from imagesmith.store.records import microseconds
from imagesmith.store.step_state import StepAnswer
from imagesmith.values.arn import Arn
from imagesmith.values.states import StepStatus


class WaitEnd(Enum):
    """Ends of a wait without an answer."""

    LATE = "late"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class ExecutionMessages:
    """Reads and writes messages for the runs of one image."""

    database: Database
    image_arn: str
    clock: Callable[[], datetime]

    @persistent
    def answer(self, id: str) -> StepAnswer | WaitEnd | None:
        """The answer to a waiting step, or the end of its wait; None while it waits."""
        with self.database.read() as tx:
            step = executions.get_step(tx, id)
            if step is None or is_cancelled(tx, self.image_arn, step.execution_id):
                return WaitEnd.CANCELLED
        if step.state.answer is not None:
            return step.state.answer
        return WaitEnd.LATE if microseconds(self.clock()) >= (step.state.deadline or 0) else None

    @persistent
    def end_wait(self, id: str) -> StepAnswer | WaitEnd:
        """End a wait whose time is over: an answer that was stored before counts, later answers are refused."""
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is None:
                return WaitEnd.CANCELLED
            if step.state.answer is not None:
                return step.state.answer
            executions.update_step(tx, replace(step, status=StepStatus.RUNNING))
            return WaitEnd.LATE

    @persistent
    def outputs(self, id: str) -> Mapping[str, Any]:
        """The outputs of a COMPLETED run; empty for any other."""
        execution = self._read(id)
        return (execution.state.outputs if execution else None) or {}

    @persistent
    def start(self, id: str) -> PartStart | None:
        """The input of a part of the run; None for any other run."""
        execution = self._read(id)
        return execution.state.start if execution else None

    @persistent
    def result(self, id: str) -> WorkflowResult | None:
        """The stored result of a part of the run."""
        execution = self._read(id)
        return execution.state.result if execution else None

    @persistent
    def keep_result(self, id: str, result: WorkflowResult) -> None:
        """Store the result of a part of the run for the other runs."""
        with self._writing() as tx:
            execution = executions.get_execution(tx, id)
            if execution is not None:
                executions.update_execution(tx, replace(execution, state=replace(execution.state, result=result)))

    @persistent
    def is_cancelled(self, id: str) -> bool:
        with self.database.read() as tx:
            return is_cancelled(tx, self.image_arn, id)

    @persistent
    def request_cancel(self, ids: Sequence[str]) -> None:
        """Request the cancel of runs of the image; the next step of each, or its waiting step, obeys it."""
        with self._writing() as tx:
            for id in ids:
                execution = executions.get_execution(tx, id)
                if execution is not None:
                    asked = replace(execution.state, cancel_requested=True)
                    executions.update_execution(tx, replace(execution, state=asked))

    def _read(self, id: str) -> WorkflowExecution | None:
        with self.database.read() as tx:
            return executions.get_execution(tx, id)

    def _writing(self) -> AbstractContextManager[Connection]:
        return self.database.write(Arn.parse(self.image_arn).scope)
