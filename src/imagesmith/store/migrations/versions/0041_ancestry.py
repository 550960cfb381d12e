"""What images are built on, as rows; and revocations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

_BATCH = 200


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    ancestry = op.create_table(
        "ancestry",
        *(_text(name) for name in ("image_arn", "digest", "parent", "parent_digest")),
        sa.PrimaryKeyConstraint("image_arn"),
    )
    for column in ("digest", "parent", "parent_digest"):
        op.create_index(f"ancestry_by_{column}", "ancestry", [column])
    op.create_table(
        "revocations",
        *(_text(name) for name in ("image_arn", "reason", "author")),
        sa.Column("revoked", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("image_arn"),
    )
    builds = sa.table(
        "builds", sa.column("image_arn", sa.Text), sa.column("plan", sa.JSON), sa.column("outcome", sa.JSON)
    )
    connection, after = op.get_bind(), ""
    while True:
        query = sa.select(builds).where(builds.c.image_arn > after).order_by(builds.c.image_arn).limit(_BATCH)
        found = connection.execute(query).all()
        if not found:
            return
        after = found[-1].image_arn
        op.bulk_insert(ancestry, [_row(item) for item in found])


def _row(item: sa.Row[Any]) -> dict[str, str]:
    parent, outcome = item.plan.get("parent") or {}, item.outcome or {}
    known = outcome.get("parent_digest") or (outcome.get("parent") or {}).get("digest") or parent.get("digest")
    return {
        "image_arn": item.image_arn, "digest": outcome.get("digest", ""),
        "parent": parent.get("reference", ""), "parent_digest": known or "",
    }  # fmt: skip


def downgrade() -> None:
    op.drop_table("revocations")
    op.drop_table("ancestry")
