"""The AMI catalog and launch templates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    op.create_table(
        "amis",
        *(_text(name) for name in ("ami_id", "account", "region", "name", "digest", "image_arn")),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("ami_id"),
    )
    op.create_index("amis_by_name", "amis", ["account", "region", "name"], unique=True)
    op.create_index("amis_by_digest", "amis", ["digest"])
    op.create_index("amis_by_image", "amis", ["image_arn"])
    op.create_table(
        "launch_templates",
        *(_text(name) for name in ("account", "region", "template_id")),
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("is_default", sa.BigInteger, nullable=False),
        _text("ami_id"),
        sa.PrimaryKeyConstraint("account", "region", "template_id", "version"),
    )


def downgrade() -> None:
    for table in ("launch_templates", "amis"):
        op.drop_table(table)
