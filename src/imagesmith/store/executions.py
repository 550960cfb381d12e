"""Rows of workflow executions and their steps, with the answers to waiting steps.

Queries use the columns; `document` holds the rest (execution_state.py, step_state.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imagesmith.store.execution_state import ExecutionState
from imagesmith.store.prepared import Prepared
from imagesmith.store.records import Cursor
from imagesmith.store.step_state import StepState
from imagesmith.store.tables import step_executions, workflow_executions
from imagesmith.values.states import ExecutionStatus, StepStatus


@dataclass(frozen=True, kw_only=True)
class WorkflowExecution:
    """One run of a workflow document for an image."""

    id: str
    image_arn: str
    account: str
    region: str
    position: int
    """Position in the order of creation within the image."""
    status: ExecutionStatus
    state: ExecutionState


@dataclass(frozen=True, kw_only=True)
class StepExecution:
    """One step of a workflow execution."""

    id: str
    execution_id: str
    image_arn: str
    account: str
    region: str
    position: int
    status: StepStatus
    started: int
    """Microseconds since the epoch; 0 before it started."""
    state: StepState

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.started, self.id)


_EXECUTIONS, _STEPS = workflow_executions, step_executions
# built once: see store.upsert
_INSERT_EXECUTION = sa.insert(_EXECUTIONS)
_INSERT_STEPS = sa.insert(_STEPS)
_GET_EXECUTION = Prepared(sa.select(_EXECUTIONS).where(_EXECUTIONS.c.id == sa.bindparam("wanted")))
_GET_STEP = Prepared(sa.select(_STEPS).where(_STEPS.c.id == sa.bindparam("wanted")))
_EXECUTIONS_OF = (
    sa.select(_EXECUTIONS)
    .where(_EXECUTIONS.c.image_arn == sa.bindparam("wanted"))
    .order_by(_EXECUTIONS.c.position, _EXECUTIONS.c.id)
)
_STEPS_OF = (
    sa.select(_STEPS)
    .where(_STEPS.c.execution_id == sa.bindparam("wanted"))
    .order_by(_STEPS.c.position, _STEPS.c.id)
)
_UPDATE_EXECUTION = Prepared(
    sa.update(_EXECUTIONS)
    .where(_EXECUTIONS.c.id == sa.bindparam("changed"))
    .values(status=sa.bindparam("status"), document=sa.bindparam("document"))
)
_UPDATE_STEP = Prepared(
    sa.update(_STEPS)
    .where(_STEPS.c.id == sa.bindparam("changed"))
    .values(status=sa.bindparam("status"), started=sa.bindparam("started"), document=sa.bindparam("document"))
)
_COUNTS = (
    sa.select(_STEPS.c.execution_id, _STEPS.c.status, sa.func.count())
    .where(_STEPS.c.execution_id.in_(sa.bindparam("wanted", expanding=True)))
    .group_by(_STEPS.c.execution_id, _STEPS.c.status)
)


def put_execution(tx: Connection, execution: WorkflowExecution, steps: Sequence[StepExecution]) -> None:
    """Store a run and its steps over those with the same ids."""
    tx.execute(sa.delete(_STEPS).where(_STEPS.c.execution_id == execution.id))
    tx.execute(sa.delete(_EXECUTIONS).where(_EXECUTIONS.c.id == execution.id))
    tx.execute(_INSERT_EXECUTION, _columns(execution))
    if steps:
        tx.execute(_INSERT_STEPS, [_columns(step) for step in steps])


def get_execution(tx: Connection, execution_id: str) -> WorkflowExecution | None:
    row = _GET_EXECUTION.first(tx, {"wanted": execution_id})
    return None if row is None else _execution(row)


def get_step(tx: Connection, step_id: str) -> StepExecution | None:
    row = _GET_STEP.first(tx, {"wanted": step_id})
    return None if row is None else _step(row)


def executions_of(tx: Connection, image_arn: str) -> list[WorkflowExecution]:
    """The runs of an image in order of creation."""
    return [_execution(row) for row in tx.execute(_EXECUTIONS_OF, {"wanted": image_arn})]


def steps_of(tx: Connection, execution_id: str) -> list[StepExecution]:
    """The steps of a run in document order."""
    return [_step(row) for row in tx.execute(_STEPS_OF, {"wanted": execution_id})]


def update_execution(tx: Connection, execution: WorkflowExecution) -> None:
    """Write status and state; the rest of a run never changes."""
    values = {"changed": execution.id, "status": execution.status, "document": execution.state.to_json()}
    _UPDATE_EXECUTION.run(tx, values)


def update_step(tx: Connection, step: StepExecution) -> None:
    """Write status, start and state; the rest of a step never changes."""
    values = {"changed": step.id, "status": step.status, "document": step.state.to_json()}
    _UPDATE_STEP.run(tx, {**values, "started": step.started})


def step_counts(tx: Connection, execution_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Run -> status -> number of its steps with it."""
    counts: dict[str, dict[str, int]] = {wanted: {} for wanted in execution_ids}
    for execution_id, status, count in tx.execute(_COUNTS, {"wanted": list(execution_ids)}):
        counts[str(execution_id)][str(status)] = int(count)
    return counts


def waiting_steps(
    tx: Connection, account: str, region: str, *, after: Cursor | None, limit: int
) -> list[StepExecution]:
    """The next waiting steps of an account and region, oldest first."""
    table = _STEPS
    query = sa.select(table).where(
        table.c.status == StepStatus.WAITING, table.c.account == account, table.c.region == region
    )
    if after is not None:
        query = query.where(
            sa.or_(
                table.c.started > after.created,
                sa.and_(table.c.started == after.created, table.c.id > after.arn),
            )
        )
    return [_step(row) for row in tx.execute(query.order_by(table.c.started, table.c.id).limit(limit))]


def mark_retried(tx: Connection, image_arn: str, type: str) -> None:
    """Mark the runs of an image that have one of these types as repeated."""
    for execution in executions_of(tx, image_arn):
        if execution.state.type == type:
            update_execution(tx, replace(execution, state=replace(execution.state, retried=True)))


def forget_executions(tx: Connection, image_arn: str) -> None:
    tx.execute(sa.delete(_STEPS).where(_STEPS.c.image_arn == image_arn))
    tx.execute(sa.delete(_EXECUTIONS).where(_EXECUTIONS.c.image_arn == image_arn))


def _columns(row: WorkflowExecution | StepExecution) -> Mapping[str, object]:
    columns = {name: value for name, value in vars(row).items() if name != "state"}
    return {**columns, "document": row.state.to_json()}


def _execution(row: Row[Any]) -> WorkflowExecution:
    return WorkflowExecution(
        id=row.id, image_arn=row.image_arn, account=row.account, region=row.region, position=row.position,
        status=ExecutionStatus(row.status), state=ExecutionState.from_json(row.document),
    )  # fmt: skip


def _step(row: Row[Any]) -> StepExecution:
    return StepExecution(
        id=row.id, execution_id=row.execution_id, image_arn=row.image_arn, account=row.account, region=row.region,
        position=row.position, status=StepStatus(row.status), started=row.started,
        state=StepState.from_json(row.document),
    )  # fmt: skip
