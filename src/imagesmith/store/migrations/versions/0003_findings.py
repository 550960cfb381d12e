"""Findings of image scans."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    op.create_table(
        "findings",
        *(
            _text(name)
            for name in ("image_arn", "vulnerability_id", "pipeline_arn", "account", "region", "severity")
        ),
        sa.Column("observed", sa.BigInteger, nullable=False),
        _text("position"),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("image_arn", "vulnerability_id"),
    )
    op.create_index("findings_by_date", "findings", ["account", "region", "observed", "position"])
    op.create_index("findings_by_pipeline", "findings", ["account", "region", "pipeline_arn", "severity"])
    op.create_index("findings_by_vulnerability", "findings", ["account", "region", "vulnerability_id", "severity"])


def downgrade() -> None:
    op.drop_table("findings")
