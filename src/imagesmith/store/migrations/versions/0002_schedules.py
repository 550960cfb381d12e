"""Schedules: when each pipeline fires next, and which instants were run.

Pipelines that carry a dateNextRun already are armed for it, so that an upgrade misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BATCH = 500


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    schedules = op.create_table(
        "schedules",
        *(_text(name) for name in ("pipeline_arn", "account", "region", "expression", "timezone")),
        *(_number(name) for name in ("anchor", "version", "since", "next_fire")),
        sa.PrimaryKeyConstraint("pipeline_arn"),
    )
    op.create_index("schedules_by_next_fire", "schedules", ["next_fire", "pipeline_arn"])
    op.create_index("schedules_by_scope", "schedules", ["account", "region", "next_fire"])
    op.create_table(
        "scheduled_runs",
        _text("pipeline_arn"),
        _number("scheduled_for"),
        _text("image_arn"),
        sa.PrimaryKeyConstraint("pipeline_arn", "scheduled_for"),
    )
    for rows in _armed(op.get_bind()):
        op.bulk_insert(schedules, rows)


def _armed(connection: sa.Connection) -> Iterator[list[dict[str, Any]]]:
    """Rows for the pipelines of an older version, in batches."""
    resources = sa.table(
        "resources",
        *(sa.column(name, sa.Text) for name in ("arn", "account", "region", "kind")),
        sa.column("document", sa.JSON),
    )
    after = ""
    while True:
        query = sa.select(resources).where(resources.c.kind == "image-pipeline", resources.c.arn > after)
        found = connection.execute(query.order_by(resources.c.arn).limit(_BATCH)).all()
        if not found:
            return
        after = found[-1].arn
        rows = [_row(item) for item in found if "dateNextRun" in item.document]
        if rows:
            yield rows


def _row(item: sa.Row[Any]) -> dict[str, Any]:
    document = item.document
    return {
        "pipeline_arn": item.arn,
        "account": item.account,
        "region": item.region,
        "expression": document["schedule"]["scheduleExpression"],
        "timezone": document["schedule"].get("timezone", "UTC"),
        "anchor": _microseconds(document["_scheduleAnchor"]),
        "version": 0,
        "since": _microseconds(document["dateUpdated"]),
        "next_fire": _microseconds(document["dateNextRun"]),
    }


def _microseconds(text: str) -> int:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def downgrade() -> None:
    op.drop_table("scheduled_runs")
    op.drop_table("schedules")
