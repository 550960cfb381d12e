"""Access keys: the identities of callers.

    data_dir/keys.json   {"keys": [{"accessKeyId", "secretAccessKey", "account", "user"?, "sessionToken"?,
                                    "expires"?, "policy"?}]}      mode 0600, from its first byte on

The first start writes one random pair for the configured account; an operator may add more, each bound to an
account and, if named, to a user of it. A key with `sessionToken` and `expires` (ISO 8601) is a temporary one.
`policy` states which operations a key may call (policy.py).
"""

from __future__ import annotations

import base64
import json
import logging
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imagesmith.files import write_atomically
from imagesmith.wire.policy import Policy, PolicyError

_log = logging.getLogger(__name__)

FILE_NAME: Final = "keys.json"
_MAX_BYTES: Final = 16 * 1024 * 1024
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_KEY_ID: Final = re.compile(r"\w{16,128}", re.ASCII)
_USER: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_FIELDS: Final = frozenset(
    {"accessKeyId", "secretAccessKey", "account", "user", "sessionToken", "expires", "policy"}
)


class KeysError(ValueError):
    """A key file that cannot be used: names the file, the entry and the expected form."""


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
    policy: Policy = Policy()  # noqa: RUF009 (frozen)

    def __repr__(self) -> str:
        """Without the secret: keys end up in messages."""
        return f"AccessKey({self.access_key_id!r}, account={self.account!r}, principal={self.principal!r})"


def principal_arn(account: str, user: str, *, partition: str) -> str:
    return f"arn:{partition}:iam::{account}:" + (f"user/{user}" if user else "root")


class KeyRing:
    """The keys that this server knows."""

    def __init__(self, keys: Iterable[AccessKey]) -> None:
        self._keys = {key.access_key_id: key for key in keys}

    @property
    def keys(self) -> tuple[AccessKey, ...]:
        return tuple(self._keys.values())

    def find(self, access_key_id: str) -> AccessKey | None:
        return self._keys.get(access_key_id)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        account: str,
        *,
        partition: str = "aws",
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> KeyRing:
        """Read the keys of a data directory, after writing a first pair for `account` if there is none.

        `entropy(n)` returns n random bytes. Raises KeysError for a file that cannot be used.
        """
        path = data_dir / FILE_NAME
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            _write_first(path, {"keys": [_new_pair(account, entropy)]})
        return cls(_read(path, partition))


def _new_pair(account: str, entropy: Callable[[int], bytes]) -> dict[str, str]:
    return {
        "accessKeyId": "AKIA" + base64.b32encode(entropy(10)).decode(),
        "secretAccessKey": base64.b64encode(entropy(30)).decode(),
        "account": account,
    }


def _write_first(path: Path, content: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Create the complete file, or leave a file that another process created meanwhile."""
    # of two servers that start at once, the second must not replace the first's keys
    write_atomically(path, json.dumps(content, indent=2) + "\n", replace=False)


def _read(path: Path, partition: str) -> list[AccessKey]:
    try:
        status = path.stat()
        if stat.S_IMODE(status.st_mode) & 0o077:
            _log.warning("%s can be read by other users of this machine; run: chmod 600 %s", path, path)
        if status.st_size > _MAX_BYTES:
            raise KeysError(f"{path} has {status.st_size} bytes; at most {_MAX_BYTES} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise KeysError(f"{path} cannot be read: {error}. Restore it, or remove it to get a new key") from error
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise KeysError(f'{path} must be an object whose "keys" is a list with at least one key')
    keys = [_entry(entry, f"{path}: keys[{index}]", partition) for index, entry in enumerate(entries)]
    if len({key.access_key_id for key in keys}) != len(keys):
        raise KeysError(f"{path}: two keys have the same accessKeyId")
    return keys


def _entry(entry: Any, where: str, partition: str) -> AccessKey:
    if not isinstance(entry, dict):
        raise KeysError(f"{where} must be an object")
    if not all(isinstance(value, str) for name, value in entry.items() if name != "policy"):
        raise KeysError(f'{where} must be an object of strings, except for "policy"')
    unknown = sorted(set(entry) - _FIELDS)
    if unknown:
        raise KeysError(f"{where}: unknown member {unknown[0]!r}; known: {', '.join(sorted(_FIELDS))}")
    key_id, account = entry.get("accessKeyId", ""), entry.get("account", "")
    user, secret = entry.get("user", ""), entry.get("secretAccessKey", "")
    if not _KEY_ID.fullmatch(key_id):
        raise KeysError(f"{where}.accessKeyId is {key_id!r}, expected 16 to 128 letters, digits or underscores")
    if not _ACCOUNT.fullmatch(account):
        raise KeysError(f"{where}.account is {account!r}, expected 12 digits")
    if user and not _USER.fullmatch(user):
        raise KeysError(f"{where}.user is {user!r}, expected 1 to 64 letters, digits or any of +=,.@_-")
    if len(secret) < 16:
        raise KeysError(f"{where}.secretAccessKey must have at least 16 characters")
    return AccessKey(
        access_key_id=key_id,
        secret=secret,
        account=account,
        principal=principal_arn(account, user, partition=partition),
        session_token=entry.get("sessionToken", ""),
        expires=_moment(entry.get("expires"), where),
        policy=_policy(entry, where),
    )


def _policy(entry: Mapping[str, Any], where: str) -> Policy:
    try:
        return Policy.read(entry["policy"]) if "policy" in entry else Policy()
    except PolicyError as error:
        raise KeysError(f"{where}.policy {error}") from error


def _moment(text: str | None, where: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise KeysError(f"{where}.expires is {text!r}, expected a time like 2030-01-31T00:00:00Z") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
