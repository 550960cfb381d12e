"""The key file: access keys in plain text, which the next start of a server takes into the database and removes.

    data_dir/keys.json   {"keys": [{"accessKeyId", "secretAccessKey", "account", "user"?, "sessionToken"?,
                                    "expires"?, "policy"?}]}

Earlier versions kept their keys there. It stays a way to bring keys along, for tools that set up machines.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imagesmith.accounts.keys import KeysError
from imagesmith.policies.access import parse_access_policy
from imagesmith.policies.document import PolicyRefused

FILE_NAME: Final = "keys.json"
ACCOUNT: Final = re.compile(r"[0-9]{12}")
USER: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_MAX_BYTES: Final = 16 * 1024 * 1024
_KEY_ID: Final = re.compile(r"\w{16,128}", re.ASCII)
_FIELDS: Final = frozenset(
    {"accessKeyId", "secretAccessKey", "account", "user", "sessionToken", "expires", "policy"}
)


@dataclass(frozen=True, kw_only=True)
class PlainKey:
    """A key of the file, with its secret in plain text."""

    access_key_id: str
    secret: str = field(repr=False)
    account: str
    user: str = ""
    session_token: str = field(default="", repr=False)
    expires: datetime | None = None
    policy: str = ""
    """The text of its policy."""


def read_key_file(path: Path) -> list[PlainKey]:
    """The keys of a file, in its order. Raises KeysError."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise KeysError(f"{path} has {size} bytes; at most {_MAX_BYTES} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise KeysError(f"{path} cannot be read: {error}. Restore it, or remove it") from error
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise KeysError(f'{path} must be an object whose "keys" is a list with at least one key')
    keys = [_entry(entry, f"{path}: keys[{index}]") for index, entry in enumerate(entries)]
    if len({key.access_key_id for key in keys}) != len(keys):
        raise KeysError(f"{path}: two keys have the same accessKeyId")
    return keys


def _entry(entry: Any, where: str) -> PlainKey:
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
    if not ACCOUNT.fullmatch(account):
        raise KeysError(f"{where}.account is {account!r}, expected 12 digits")
    if user and not USER.fullmatch(user):
        raise KeysError(f"{where}.user is {user!r}, expected 1 to 64 letters, digits or any of +=,.@_-")
    if len(secret) < 16:
        raise KeysError(f"{where}.secretAccessKey must have at least 16 characters")
    return PlainKey(
        access_key_id=key_id,
        secret=secret,
        account=account,
        user=user,
        session_token=entry.get("sessionToken", ""),
        expires=_moment(entry.get("expires"), where),
        policy=_policy(entry, where),
    )


def _policy(entry: dict[str, Any], where: str) -> str:
    if "policy" not in entry:
        return ""
    text = json.dumps(entry["policy"])
    try:
        parse_access_policy(text)
    except PolicyRefused as error:
        raise KeysError(f"{where}.policy: {error}") from error
    return text


def _moment(text: str | None, where: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise KeysError(f"{where}.expires is {text!r}, expected a time like 2030-01-31T00:00:00Z") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
