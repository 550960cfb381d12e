"""Access keys: the identities of callers, as a running server knows them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from imagesmith.policies.access import AccessPolicy


class KeysError(ValueError):
    """Keys that cannot be used: names the file or key, the member and the expected form."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key, with what its requests may do."""

    access_key_id: str
    secret: str
    account: str
    principal: str
    """ARN of the user, or of the account's root."""
    session_token: str = ""
    """The session token that a temporary key must be used with."""
    expires: datetime | None = None
    policy: AccessPolicy = AccessPolicy()  # noqa: RUF009 (frozen)
    retires: datetime | None = None
    """From then on the key is unknown: another one replaced it."""

    def __repr__(self) -> str:
        """Without the secret: keys end up in messages."""
        return f"AccessKey({self.access_key_id!r}, account={self.account!r}, principal={self.principal!r})"


def principal_arn(account: str, user: str, *, partition: str) -> str:
    return f"arn:{partition}:iam::{account}:" + (f"user/{user}" if user else "root")


def new_pair(entropy: Callable[[int], bytes] = secrets.token_bytes) -> tuple[str, str]:
    """A random id and secret of AWS's form; `entropy(n)` returns n random bytes."""
    return "AKIA" + base64.b32encode(entropy(10)).decode(), base64.b64encode(entropy(30)).decode()


class KeyRing:
    """The keys that this server knows. They may be replaced while other threads look for one."""

    def __init__(self, keys: Iterable[AccessKey]) -> None:
        self._keys = {key.access_key_id: key for key in keys}

    @property
    def keys(self) -> tuple[AccessKey, ...]:
        return tuple(self._keys.values())

    def find(self, access_key_id: str, now: datetime) -> AccessKey | None:
        """The key of an id, unless it is unknown or retired."""
        key = self._keys.get(access_key_id)
        return None if key is None or (key.retires is not None and now >= key.retires) else key

    def set_keys(self, keys: Iterable[AccessKey]) -> None:
        # one assignment: a request sees the keys of before or after
        self._keys = {key.access_key_id: key for key in keys}
