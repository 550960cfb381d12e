"""Accounts and access keys in the database: what servers load, and what the commands change.

    create --> active --rotate--> active until the grace ends, beside its replacement --> retired
                  |                                                                        |
                  '------------------------------revoke------------------------------------'--> revoked

Every change raises a number; servers compare it several times a second (key_follower.py). Secrets are encrypted
with the key file of the server (secret_box.py), and the secret of a revoked key is forgotten.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from imagesmith.accounts.key_file import PlainKey
from imagesmith.accounts.keys import AccessKey, KeysError, new_pair, principal_arn
from imagesmith.accounts.secret_box import SecretBox, SecretsError
from imagesmith.policies.access import parse_access_policy
from imagesmith.policies.document import PolicyRefused
from imagesmith.store.access_keys import (
    SCOPE,
    Account,
    KeyState,
    StoredKey,
    add_account,
    all_accounts,
    all_keys,
    get_key,
    keys_revision,
    put_key,
    revoke_key,
)
from imagesmith.store.database import Database

_log = logging.getLogger(__name__)


class KeyRefused(ValueError):
    """A change of an account or key that is not made: the reason, and what to do instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True)
class CreatedKey:
    """A new key with its secret, which is shown this once."""

    key: StoredKey
    secret: str


class KeyStore:
    """The accounts and keys of a database."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        *,
        partition: str,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._database = database
        self._box = box
        self._partition = partition
        self._clock = clock
        self._entropy = entropy
        self.created = ""
        """The account or key that was created last, for records of a command."""

    # What servers do

    def revision(self) -> int:
        """A number that grows with every change of a key."""
        return self._database.query(keys_revision)

    def load(self) -> list[AccessKey]:
        """The keys that requests may be signed with. One that does not open is reported and left out."""
        found = []
        for stored in self._database.query(all_keys):
            if stored.state is KeyState.ACTIVE:
                try:
                    found.append(self._opened(stored))
                except (SecretsError, PolicyRefused) as error:
                    _log.error("the access key %s cannot be used: %s", stored.id, error)
        return found

    def require_opened(self) -> None:
        """Raise SecretsError when the key file is not the one that the stored secrets were encrypted with."""
        for stored in self._database.query(all_keys):
            if stored.state is KeyState.ACTIVE and self._box.is_foreign(stored.secret):
                self._box.unseal(stored.secret, stored.id)

    def take_in(self, keys: Sequence[PlainKey]) -> int:
        """Store the keys of a file; returns how many were new. Raises KeysError for an id with another secret."""
        now = self._clock()
        with self._database.write(SCOPE) as tx:
            added = 0
            for number, plain in enumerate(keys):
                known = get_key(tx, plain.access_key_id)
                if known is not None:
                    self._compare(known, plain)
                    continue
                add_account(tx, Account(id=plain.account, name="", created=now))
                put_key(tx, self._sealed(plain, now + timedelta(microseconds=number)))
                added += 1
        return added

    def _compare(self, known: StoredKey, plain: PlainKey) -> None:
        if known.state is KeyState.REVOKED:
            raise KeysError(f"the key {known.id} was revoked, and an id is not used twice: remove it from the file")
        if known.account != plain.account or self._box.unseal(known.secret, known.id) != plain.secret:
            raise KeysError(f"the key {known.id} exists with another account or secret: remove it from the file")

    def require_one(self, account: str) -> None:
        """Create a key for an account when no key may be used at all: the first start."""
        now = self._clock()
        with self._database.write(SCOPE) as tx:
            if not any(key.is_usable(now) for key in all_keys(tx)):
                add_account(tx, Account(id=account, name="", created=now))
                self._create(tx, account=account)

    # What commands do

    def create_account(self, account: str, name: str) -> Account:
        """Add an account. Raises KeyRefused."""
        made = Account(id=account, name=name, created=self._clock())
        with self._database.write(SCOPE) as tx:
            if not add_account(tx, made):
                raise KeyRefused(f"the account {account} exists", "see: imagesmith account list")
        self.created = account
        return made

    def create(
        self, account: str, *, user: str = "", policy: str = "", expires: datetime | None = None
    ) -> CreatedKey:
        """Create a key of an account. Raises KeyRefused."""
        with self._database.write(SCOPE) as tx:
            if account not in {known.id for known in all_accounts(tx)}:
                raise KeyRefused(
                    f"there is no account {account}", f"create it with: imagesmith account create {account}"
                )
            return self._create(tx, account=account, user=user, policy=policy, expires=expires)

    def rotate(self, key_id: str, *, grace: timedelta) -> CreatedKey:
        """Replace a key; the old one stays valid for the grace. Raises KeyRefused."""
        now = self._clock()
        with self._database.write(SCOPE) as tx:
            old = _usable(tx, key_id, now)
            if old.replaced_by:
                raise KeyRefused(
                    f"the key {key_id} was already rotated; {old.replaced_by} replaces it",
                    f"rotate that one, or end the old one with: imagesmith key revoke {key_id}",
                )
            if old.token:
                raise KeyRefused(
                    f"the key {key_id} is temporary, and such keys are not rotated", "create a new one"
                )
            made = self._create(tx, account=old.account, user=old.user, policy=old.policy, expires=old.expires)
            if grace:
                put_key(tx, replace(old, replaced_by=made.key.id, retires=now + grace))
            else:
                revoke_key(tx, replace(old, replaced_by=made.key.id))
        return made

    def revoke(self, key_id: str, *, force: bool) -> StoredKey:
        """End a key at once. Raises KeyRefused, without `force` also for the last one of an account."""
        now = self._clock()
        with self._database.write(SCOPE) as tx:
            key = get_key(tx, key_id)
            if key is None:
                raise _unknown(key_id)
            if key.state is KeyState.REVOKED:
                raise KeyRefused(f"the key {key_id} is revoked already")
            if not force and key.is_usable(now):
                _require_another(tx, key, now, "revoked")
            revoke_key(tx, key)
        return key

    def set_policy(self, key_id: str, policy: str, *, force: bool) -> StoredKey:
        """Set or, with an empty text, remove the policy of a key.

        Raises KeyRefused, without `force` also when no key of the account could do everything any more.
        """
        now = self._clock()
        with self._database.write(SCOPE) as tx:
            key = _usable(tx, key_id, now)
            changed = replace(key, policy=policy)
            if not force and not _is_restricted(key) and _is_restricted(changed):
                _require_another(tx, key, now, "restricted")
            put_key(tx, changed)
        return changed

    def all_keys(self, account: str = "") -> list[StoredKey]:
        """The keys of an account, or of all, revoked ones included."""
        return self._database.query(lambda tx: all_keys(tx, account=account))

    def key(self, key_id: str) -> StoredKey:
        """A key. Raises KeyRefused."""
        found = self._database.query(lambda tx: get_key(tx, key_id))
        if found is None:
            raise _unknown(key_id)
        return found

    def accounts(self) -> list[Account]:
        return self._database.query(all_accounts)

    def _create(
        self, tx: Connection, *, account: str, user: str = "", policy: str = "", expires: datetime | None = None
    ) -> CreatedKey:
        key_id, secret = new_pair(self._entropy)
        plain = PlainKey(
            access_key_id=key_id, secret=secret, account=account, user=user, policy=policy, expires=expires
        )
        key = self._sealed(plain, self._clock())
        put_key(tx, key)
        self.created = key_id
        return CreatedKey(key, secret)

    def _sealed(self, plain: PlainKey, created: datetime) -> StoredKey:
        token = plain.session_token
        return StoredKey(
            id=plain.access_key_id, account=plain.account, user=plain.user, policy=plain.policy, created=created,
            secret=self._box.seal(plain.secret, plain.access_key_id),
            token=self._box.seal(token, f"{plain.access_key_id}/token") if token else "", expires=plain.expires,
        )  # fmt: skip

    def _opened(self, stored: StoredKey) -> AccessKey:
        return AccessKey(
            access_key_id=stored.id,
            secret=self._box.unseal(stored.secret, stored.id),
            account=stored.account,
            principal=principal_arn(stored.account, stored.user, partition=self._partition),
            session_token=self._box.unseal(stored.token, f"{stored.id}/token") if stored.token else "",
            expires=stored.expires,
            policy=parse_access_policy(stored.policy),
            retires=stored.retires,
        )


def _is_restricted(key: StoredKey) -> bool:
    return not parse_access_policy(key.policy).is_unrestricted


def _unknown(key_id: str) -> KeyRefused:
    return KeyRefused(f"there is no key {key_id}", "see: imagesmith key list")


def _usable(tx: Connection, key_id: str, now: datetime) -> StoredKey:
    key = get_key(tx, key_id)
    if key is None:
        raise _unknown(key_id)
    if not key.is_usable(now):
        state = "revoked" if key.state is KeyState.REVOKED else "expired"
        raise KeyRefused(f"the key {key_id} is {state}", "see: imagesmith key list")
    return key


def _require_another(tx: Connection, key: StoredKey, now: datetime, done: str) -> None:
    """Refuse a change after which no key of the account may do everything."""
    others = [other for other in all_keys(tx, account=key.account) if other.id != key.id and other.is_usable(now)]
    if _is_restricted(key) or any(not _is_restricted(other) and not other.retires for other in others):
        return
    raise KeyRefused(
        f"the key {key.id} is the last one that may do everything in the account {key.account}; {done}, it would "
        "leave the account without one",
        f"create another first with: imagesmith key create --account {key.account}; or use --force",
    )
