"""Accounts and their access keys, with encrypted secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0020"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table("accounts", _text("id"), _text("name"), _number("created"), sa.PrimaryKeyConstraint("id"))
    op.create_table(
        "access_keys",
        *(
            _text(name)
            for name in ("id", "account", "user_name", "state", "secret", "token", "policy", "replaced_by")
        ),
        *(_number(name) for name in ("created", "expires", "retires")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("access_keys_by_account", "access_keys", ["account", "created"])


def downgrade() -> None:
    op.drop_table("access_keys")
    op.drop_table("accounts")
