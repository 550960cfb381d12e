"""Lifecycle executions and the resources that they selected; the next runs of lifecycle policies.

execution --> images, in the order of the execution --> below each image its outputs: AMIs, containers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import Cursor, from_microseconds, microseconds
from imagesmith.store.tables import lifecycle_executions, lifecycle_resources, lifecycle_schedules, resources
from imagesmith.store.upsert import for_dialect, upserts
from imagesmith.values.states import UNFINISHED_LIFECYCLE, LifecycleOutcome, LifecycleStatus
from imagesmith.values.version import Version

_PUT_RESOURCE = upserts(lifecycle_resources)
_PUT_SCHEDULE = upserts(lifecycle_schedules)


@dataclass(frozen=True, kw_only=True)
class LifecycleExecution:
    """One execution. `document` is its order, as lifecycle/order.py writes it."""

    id: str
    account: str
    region: str
    subject: str
    """The ARN of the policy, or of the image of a state update."""
    status: LifecycleStatus
    started: datetime
    ended: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cursor(self) -> Cursor:
        return Cursor(microseconds(self.started), self.id)


@dataclass(frozen=True, kw_only=True)
class LifecycleResource:
    """An image that an execution selected, or with a `parent_id` one of its outputs.

    `document`: action, reason, account, region, startTime and endTime (ISO 8601), and what the kind needs.
    """

    execution_id: str
    resource_id: str
    position: int
    status: LifecycleOutcome
    parent_id: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)


def put_execution(tx: Connection, execution: LifecycleExecution) -> None:
    values = {
        "id": execution.id, "account": execution.account, "region": execution.region,
        "subject": execution.subject, "status": execution.status, "started": microseconds(execution.started),
        "ended": microseconds(execution.ended) if execution.ended else 0, "document": dict(execution.document),
    }  # fmt: skip
    tx.execute(sa.insert(lifecycle_executions).values(values))


def get_execution(tx: Connection, id: str) -> LifecycleExecution | None:
    table = lifecycle_executions
    row = tx.execute(sa.select(table).where(table.c.id == id)).first()
    return None if row is None else _execution(row)


def set_status(
    tx: Connection, id: str, status: LifecycleStatus, *, ended: datetime | None = None, reason: str = ""
) -> None:
    """Change the status of an execution; with `ended` it is over, and `reason` says why it did not succeed."""
    found = get_execution(tx, id)
    if found is None:
        return
    document = {**found.document, **({"reason": reason} if reason else {})}
    values = {"status": status, "ended": microseconds(ended) if ended else 0, "document": document}
    tx.execute(sa.update(lifecycle_executions).where(lifecycle_executions.c.id == id).values(values))


def list_executions(
    tx: Connection, account: str, region: str, subject: str, *, after: Cursor | None, limit: int
) -> list[LifecycleExecution]:
    """The executions of a policy or image, newest first."""
    table = lifecycle_executions
    query = sa.select(table).where(table.c.subject == subject, table.c.account == account, table.c.region == region)
    if after is not None:
        query = query.where(sa.tuple_(table.c.started, table.c.id) < sa.tuple_(after.created, after.arn))
    rows = tx.execute(query.order_by(table.c.started.desc(), table.c.id.desc()).limit(limit))
    return [_execution(row) for row in rows]


def unfinished(
    tx: Connection, *, subject: str = "", account: str = "", region: str = ""
) -> list[LifecycleExecution]:
    """Executions that have not ended; every non-empty filter must match."""
    table = lifecycle_executions
    query = sa.select(table).where(table.c.status.in_(UNFINISHED_LIFECYCLE))
    for column, value in ((table.c.subject, subject), (table.c.account, account), (table.c.region, region)):
        if value:
            query = query.where(column == value)
    return [_execution(row) for row in tx.execute(query.order_by(table.c.started, table.c.id))]


def put_resource(tx: Connection, resource: LifecycleResource) -> None:
    """Write a resource, or write it again."""
    tx.execute(for_dialect(tx, _PUT_RESOURCE), {**resource.__dict__, "document": dict(resource.document)})


def get_resource(tx: Connection, execution_id: str, resource_id: str) -> LifecycleResource | None:
    """An image of an execution."""
    table = lifecycle_resources
    query = sa.select(table).where(
        table.c.execution_id == execution_id, table.c.parent_id == "", table.c.resource_id == resource_id
    )
    row = tx.execute(query).first()
    return None if row is None else _resource(row)


def add_resources(tx: Connection, added: Sequence[LifecycleResource]) -> None:
    """Write new resources."""
    if added:
        rows = [{**resource.__dict__, "document": dict(resource.document)} for resource in added]
        tx.execute(sa.insert(lifecycle_resources), rows)


def list_resources(
    tx: Connection, execution_id: str, *, parent_id: str = "", after: int = -1, limit: int = 1000
) -> list[LifecycleResource]:
    """The images of an execution, or the outputs of one, in their order."""
    table = lifecycle_resources
    query = sa.select(table).where(
        table.c.execution_id == execution_id, table.c.parent_id == parent_id, table.c.position > after
    )
    return [_resource(row) for row in tx.execute(query.order_by(table.c.position).limit(limit))]


def next_resources(tx: Connection, execution_id: str, limit: int) -> list[LifecycleResource]:
    """The next images of an execution that are not done."""
    table = lifecycle_resources
    query = sa.select(table).where(
        table.c.execution_id == execution_id, table.c.parent_id == "",
        table.c.status == LifecycleOutcome.IN_PROGRESS,
    )  # fmt: skip
    return [_resource(row) for row in tx.execute(query.order_by(table.c.position).limit(limit))]


def count_outcomes(tx: Connection, execution_id: str) -> Mapping[str, int]:
    """Status -> number of images of an execution."""
    table = lifecycle_resources
    query = sa.select(table.c.status, sa.func.count()).where(
        table.c.execution_id == execution_id, table.c.parent_id == ""
    )
    return {str(status): int(count) for status, count in tx.execute(query.group_by(table.c.status))}


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """What lifecycle rules look at in an image."""

    arn: str
    type: str
    slug: str
    version: Version
    build: int
    status: str
    created: datetime
    tags: Mapping[str, str]


def stored_images(tx: Connection, account: str, region: str) -> Iterator[StoredImage]:
    """Every image of an account and Region; documents are not read."""
    table = resources
    names = ("arn", "slug", "major", "minor", "patch", "build", "status", "created", "tags")
    query = sa.select(*(table.c[name] for name in names), table.c.document["type"].as_string().label("type"))
    query = query.where(table.c.account == account, table.c.region == region, table.c.kind == "image")
    for row in tx.execute(query):
        yield StoredImage(
            arn=row.arn, type=str(row.type), slug=row.slug, version=Version(row.major, row.minor, row.patch),
            build=row.build, status=row.status, created=from_microseconds(row.created), tags=row.tags,
        )  # fmt: skip


def set_next_run(tx: Connection, policy_arn: str, next_run: datetime | None) -> None:
    """Set the next run of a policy; None: it has none."""
    table = lifecycle_schedules
    if next_run is None:
        tx.execute(sa.delete(table).where(table.c.policy_arn == policy_arn))
    else:
        row = {"policy_arn": policy_arn, "next_run": microseconds(next_run)}
        tx.execute(for_dialect(tx, _PUT_SCHEDULE), row)


def due_policies(tx: Connection, now: datetime, limit: int) -> list[str]:
    """The ARNs of policies whose run is due, the longest due first."""
    table = lifecycle_schedules
    query = sa.select(table.c.policy_arn).where(table.c.next_run <= microseconds(now))
    return [str(arn) for arn in tx.execute(query.order_by(table.c.next_run).limit(limit)).scalars()]


def is_due(tx: Connection, policy_arn: str, now: datetime) -> bool:
    table = lifecycle_schedules
    query = sa.select(table.c.next_run).where(table.c.policy_arn == policy_arn)
    found = tx.execute(query).scalar()
    return found is not None and int(found) <= microseconds(now)


def _execution(row: Any) -> LifecycleExecution:
    return LifecycleExecution(
        id=row.id,
        account=row.account,
        region=row.region,
        subject=row.subject,
        status=LifecycleStatus(row.status),
        started=from_microseconds(row.started),
        ended=from_microseconds(row.ended) if row.ended else None,
        document=row.document,
    )


def _resource(row: Any) -> LifecycleResource:
    return LifecycleResource(
        execution_id=row.execution_id,
        parent_id=row.parent_id,
        resource_id=row.resource_id,
        position=int(row.position),
        status=LifecycleOutcome(row.status),
        document=row.document,
    )
