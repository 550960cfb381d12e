"""Accounts and access keys, and the number that grows with every change of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store import counters
from imagesmith.store.account_tables import access_keys, accounts
from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.upsert import for_dialect, upserts

SCOPE: Final = "access-keys"
"""The turn of changes of accounts and keys."""
_REVISION: Final = "access-keys"
_PUT_KEY = upserts(access_keys)


class KeyState(StrEnum):
    """Whether a key may be used."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account that keys may belong to."""

    id: str
    name: str
    created: datetime


@dataclass(frozen=True, kw_only=True)
class StoredKey:
    """An access key as it is stored: what it may be used for, and its encrypted secret."""

    id: str
    account: str
    user: str
    secret: str
    """Encrypted; empty once the key is revoked."""
    token: str
    """The encrypted session token; empty for a key without one."""
    policy: str
    """The text of its policy; empty: everything is allowed."""
    created: datetime
    state: KeyState = KeyState.ACTIVE
    replaced_by: str = ""
    expires: datetime | None = None
    retires: datetime | None = None
    """When a rotated key stops to be valid."""

    @property
    def end(self) -> datetime | None:
        """When it stops to be valid by itself."""
        return min((moment for moment in (self.expires, self.retires) if moment is not None), default=None)

    def is_usable(self, now: datetime) -> bool:
        """Whether a request may be signed with it."""
        return self.state is KeyState.ACTIVE and (self.end is None or now < self.end)


def add_account(tx: Connection, account: Account) -> bool:
    """Add an account; returns False if it exists. Needs the turn of SCOPE."""
    if tx.execute(sa.select(accounts.c.id).where(accounts.c.id == account.id)).first() is not None:
        return False
    row = {"id": account.id, "name": account.name, "created": microseconds(account.created)}
    tx.execute(sa.insert(accounts), row)
    return True


def all_accounts(tx: Connection) -> list[Account]:
    """All accounts, by their id."""
    rows = tx.execute(sa.select(accounts).order_by(accounts.c.id))
    return [Account(id=row.id, name=row.name, created=from_microseconds(row.created)) for row in rows]


def put_key(tx: Connection, key: StoredKey) -> None:
    """Store a key, over an earlier state of it; servers notice."""
    row = {
        "id": key.id, "account": key.account, "user_name": key.user, "state": str(key.state), "secret": key.secret,
        "token": key.token, "policy": key.policy, "replaced_by": key.replaced_by,
        "created": microseconds(key.created), "expires": _number(key.expires), "retires": _number(key.retires),
    }  # fmt: skip
    tx.execute(for_dialect(tx, _PUT_KEY), row)
    counters.next_number(tx, _REVISION)


def revoke_key(tx: Connection, key: StoredKey) -> None:
    """Mark a key as revoked and forget its secret."""
    put_key(tx, replace(key, state=KeyState.REVOKED, secret="", token="", retires=None))


def get_key(tx: Connection, key_id: str) -> StoredKey | None:
    row = tx.execute(sa.select(access_keys).where(access_keys.c.id == key_id)).first()
    return None if row is None else _key(row)


def all_keys(tx: Connection, *, account: str = "") -> list[StoredKey]:
    """The keys of an account, or of all, in the order in which they were created."""
    query = sa.select(access_keys).order_by(access_keys.c.created, access_keys.c.id)
    return [_key(row) for row in tx.execute(query.where(access_keys.c.account == account) if account else query)]


def keys_revision(tx: Connection) -> int:
    """A number that grows with every change of a key."""
    return counters.counter(tx, _REVISION) or 0


def _number(moment: datetime | None) -> int:
    return 0 if moment is None else microseconds(moment)


def _key(row: Any) -> StoredKey:
    return StoredKey(
        id=row.id, account=row.account, user=row.user_name, secret=row.secret, token=row.token, policy=row.policy,
        created=from_microseconds(row.created), state=KeyState(row.state), replaced_by=row.replaced_by,
        expires=from_microseconds(row.expires) if row.expires else None,
        retires=from_microseconds(row.retires) if row.retires else None,
    )  # fmt: skip
