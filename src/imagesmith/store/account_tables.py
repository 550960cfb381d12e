"""The tables of accounts and of their keys.

accounts     the accounts that keys may belong to
access_keys  access keys: their secrets are encrypted, and gone once a key is revoked
audit_lines  lines of the audit logs of servers, until their files have them durably
"""

from __future__ import annotations

import sqlalchemy as sa

from imagesmith.store.columns import number, text

metadata = sa.MetaData()

accounts = sa.Table("accounts", metadata, text("id", primary_key=True), text("name"), number("created"))

access_keys = sa.Table(
    "access_keys",
    metadata,
    text("id", primary_key=True),
    text("account"),
    text("user_name"),
    text("state"),
    text("secret"),
    text("token"),
    text("policy"),
    text("replaced_by"),
    number("created"),
    number("expires"),
    number("retires"),
    sa.Index("access_keys_by_account", "account", "created"),
)

audit_lines = sa.Table(
    "audit_lines", metadata, text("id", primary_key=True), text("log"), text("line"), number("time")
)
