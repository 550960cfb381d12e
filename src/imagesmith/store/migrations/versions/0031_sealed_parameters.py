"""Room for the encrypted values of secure parameters; the next start of a server fills it (accounts/)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("parameters", sa.Column("sealed", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("parameters", "sealed")
