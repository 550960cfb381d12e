"""Which version of the time zone database each process on one database fires schedules by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("zone_data", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("workers", "zone_data")
