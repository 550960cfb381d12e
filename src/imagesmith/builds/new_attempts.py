"""States of a new attempt of a run: what is new, and what it inherits from the attempt before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imagesmith.store.execution_state import ExecutionState
from imagesmith.store.executions import StepExecution
from imagesmith.store.step_state import MESSAGE_LIMIT, StepState
from imagesmith.workflow_documents.document import Step


def inherited_state(state: ExecutionState, earlier: ExecutionState) -> ExecutionState:
    """The state of a new attempt of a run, which inherits some members of the attempt before."""
    return replace(
        state,
        start_time=earlier.start_time or state.start_time,
        start=earlier.start or state.start,
        deaths=earlier.deaths,
        cancel_requested=earlier.cancel_requested,
    )


def with_answers(steps: Sequence[StepExecution], earlier: Sequence[StepExecution]) -> list[StepExecution]:
    """Keep answers that were given before a crash, so that approvers are not asked twice."""
    answers = {step.id: step.state.answer for step in earlier}
    return [replace(step, state=replace(step.state, answer=answers.get(step.id))) for step in steps]


def new_step_state(step: Step) -> StepState:
    return StepState(
        name=step.name, action=step.action, on_failure=step.on_failure, timeout_seconds=step.timeout_seconds,
        description=step.description[:MESSAGE_LIMIT],
    )  # fmt: skip
