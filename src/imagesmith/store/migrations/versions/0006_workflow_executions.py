"""Runs of workflow documents, their steps and their instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "workflow_executions",
        *(_text(name) for name in ("id", "image_arn", "account", "region")),
        _number("position"),
        _text("status"),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("workflow_executions_by_image", "workflow_executions", ["image_arn", "position"])
    op.create_table(
        "step_executions",
        *(_text(name) for name in ("id", "execution_id", "image_arn", "account", "region")),
        _number("position"),
        _text("status"),
        _number("started"),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("step_executions_by_execution", "step_executions", ["execution_id", "position"])
    op.create_index("step_executions_by_status", "step_executions", ["status", "account", "region", "started"])
    op.create_index("step_executions_by_image", "step_executions", ["image_arn"])
    op.create_table(
        "instances",
        *(_text(name) for name in ("id", "image_arn", "execution_id")),
        sa.Column("at_rest", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("instances_by_image", "instances", ["image_arn"])


def downgrade() -> None:
    op.drop_table("instances")
    op.drop_table("step_executions")
    op.drop_table("workflow_executions")
