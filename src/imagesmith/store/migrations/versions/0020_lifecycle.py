"""Lifecycle executions, what each selected, and the next runs of lifecycle policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0014"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _document() -> sa.Column[object]:
    return sa.Column("document", sa.JSON, nullable=False)


def upgrade() -> None:
    op.create_table(
        "lifecycle_executions",
        *(_text(name) for name in ("id", "account", "region", "subject", "status")),
        *(_number(name) for name in ("started", "ended")),
        _document(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("lifecycle_executions_by_subject", "lifecycle_executions", ["subject", "started", "id"])
    op.create_index("lifecycle_executions_by_status", "lifecycle_executions", ["status", "account", "region"])
    op.create_table(
        "lifecycle_resources",
        *(_text(name) for name in ("execution_id", "parent_id", "resource_id")),
        _number("position"),
        _text("status"),
        _document(),
        sa.PrimaryKeyConstraint("execution_id", "parent_id", "resource_id"),
    )
    for name, columns in (("position", ["position"]), ("status", ["status", "position"])):
        op.create_index(
            f"lifecycle_resources_by_{name}", "lifecycle_resources", ["execution_id", "parent_id", *columns]
        )
    op.create_table(
        "lifecycle_schedules", _text("policy_arn"), _number("next_run"), sa.PrimaryKeyConstraint("policy_arn")
    )
    op.create_index("lifecycle_schedules_by_next_run", "lifecycle_schedules", ["next_run"])


def downgrade() -> None:
    for table in ("lifecycle_schedules", "lifecycle_resources", "lifecycle_executions"):
        op.drop_table(table)
