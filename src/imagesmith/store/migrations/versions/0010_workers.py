"""Workers that share a database, the runs that they claimed, and which of them has an instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "workers",
        *(_text(name) for name in ("id", "name", "host", "place", "state")),
        *(_number(name) for name in ("pid", "concurrency", "started", "heartbeat")),
        sa.Column("queues", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "runs",
        *(_text(name) for name in ("key", "image_arn", "worker")),
        _number("fence"),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("runs_by_worker", "runs", ["worker"])
    op.create_index("runs_by_image", "runs", ["image_arn"])
    op.add_column("instances", sa.Column("worker", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("instances", "worker")
    for table in ("runs", "workers"):
        op.drop_table(table)
