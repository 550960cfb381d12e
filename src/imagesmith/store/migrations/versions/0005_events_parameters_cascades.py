"""The outbox of events, stored parameters, and images whose dependents are still to be looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "events",
        *(_text(name) for name in ("id", "account", "region", "detail_type")),
        _number("time"),
        *(sa.Column(name, sa.JSON, nullable=False) for name in ("resources", "detail")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("events_by_time", "events", ["account", "region", "time", "id"])
    op.create_table(
        "parameters",
        *(_text(name) for name in ("account", "region", "name", "value")),
        _number("updated"),
        sa.PrimaryKeyConstraint("account", "region", "name"),
    )
    op.create_table("cascades", _text("image_arn"), _number("since"), sa.PrimaryKeyConstraint("image_arn"))


def downgrade() -> None:
    for table in ("cascades", "parameters", "events"):
        op.drop_table(table)
