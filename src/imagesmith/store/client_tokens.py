"""Answers of earlier calls, by their client tokens."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.prepared import Prepared
from imagesmith.store.records import microseconds
from imagesmith.store.tables import tokens
from imagesmith.store.upsert import upserts
from imagesmith.values.api import ApiResponse

_FIND_TOKEN = Prepared(
    sa.select(tokens).where(
        tokens.c.account == sa.bindparam("in_account"),
        tokens.c.region == sa.bindparam("in_region"),
        tokens.c.operation == sa.bindparam("of_operation"),
        tokens.c.token == sa.bindparam("wanted"),
    )
)
_FORGET_TOKENS = Prepared(sa.delete(tokens).where(tokens.c.created < sa.bindparam("moment")))
_REMEMBER_TOKEN = Prepared(upserts(tokens))


def find_token(
    tx: Connection, account: str, region: str, operation: str, token: str, *, not_before: datetime
) -> tuple[str, ApiResponse] | None:
    """Fingerprint and answer of an earlier call with this client token, unless the call is too old."""
    key = {"in_account": account, "in_region": region, "of_operation": operation, "wanted": token}
    row = _FIND_TOKEN.first(tx, key)
    if row is None or int(row.created) < microseconds(not_before):
        return None
    return row.fingerprint, dict(row.response)


def remember_token(
    tx: Connection,
    account: str,
    region: str,
    operation: str,
    token: str,
    *,
    fingerprint: str,
    response: ApiResponse,
    now: datetime,
) -> None:
    """Store the answer of a call, over the answer of an expired token."""
    values = {
        "account": account, "region": region, "operation": operation, "token": token,
        "fingerprint": fingerprint, "response": response, "created": microseconds(now),
    }  # fmt: skip
    _REMEMBER_TOKEN.run(tx, values)


def forget_tokens(tx: Connection, not_before: datetime) -> None:
    """Delete the answers of expired tokens."""
    _FORGET_TOKENS.run(tx, {"moment": microseconds(not_before)})
