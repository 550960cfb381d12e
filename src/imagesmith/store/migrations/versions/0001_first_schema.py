"""First schema: resources, links, tokens, counters, builds, inventories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "resources",
        *(_text(name) for name in ("arn", "account", "region", "kind", "family", "slug", "name")),
        *(_number(name) for name in ("major", "minor", "patch", "build")),
        _text("status"),
        _text("source"),
        _number("created"),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("arn"),
    )
    scope = ["account", "region", "kind"]
    version = ["major", "minor", "patch", "build"]
    op.create_index("resources_by_version", "resources", [*scope, "family", "slug", *version], unique=True)
    op.create_index("resources_by_date", "resources", [*scope, "created", "arn"])
    op.create_index("resources_by_name", "resources", [*scope, "name", "created"])
    op.create_index("resources_by_source", "resources", ["source", "created"])
    op.create_index("resources_by_status", "resources", ["kind", "status"])
    op.create_table("links", _text("from_arn"), _text("to_arn"), sa.PrimaryKeyConstraint("from_arn", "to_arn"))
    op.create_index("links_by_target", "links", ["to_arn"])
    op.create_table(
        "tokens",
        *(_text(name) for name in ("account", "region", "operation", "token", "fingerprint")),
        sa.Column("response", sa.JSON, nullable=False),
        _number("created"),
        sa.PrimaryKeyConstraint("account", "region", "operation", "token"),
    )
    op.create_index("tokens_by_date", "tokens", ["created"])
    op.create_table("counters", _text("key"), _number("value"), sa.PrimaryKeyConstraint("key"))
    op.create_table(
        "builds",
        _text("image_arn"),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("outcome", sa.JSON, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("image_arn"),
    )
    op.create_table(
        "inventories",
        _text("image_arn"),
        sa.Column("packages", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("image_arn"),
    )


def downgrade() -> None:
    for table in ("inventories", "builds", "counters", "tokens", "links", "resources"):
        op.drop_table(table)
