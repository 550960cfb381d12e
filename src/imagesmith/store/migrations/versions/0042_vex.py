"""Verdicts about vulnerabilities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

_TEXTS = (
    "account", "region", "id", "vulnerability", "product", "package", "status", "justification", "impact", "action",
    "author",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "vex_statements",
        *(sa.Column(name, sa.Text, nullable=False) for name in _TEXTS),
        sa.Column("stated", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "region", "id"),
    )
    op.create_index("vex_statements_by_vulnerability", "vex_statements", ["account", "region", "vulnerability"])


def downgrade() -> None:
    op.drop_table("vex_statements")
