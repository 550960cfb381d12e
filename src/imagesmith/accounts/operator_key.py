"""The key that commands on the server's machine use: a copy in the data directory, its secret encrypted.

    DATA/operator-key.json   {"accessKeyId", "account", "principal", "secret"}, mode 0600

`imagesmith env`, `image list` and other commands read it without opening the database. Servers and the commands
that change keys write it again whenever another key is the right one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from imagesmith.accounts.keys import AccessKey, KeysError
from imagesmith.accounts.secret_box import SecretBox
from imagesmith.files import write_atomically
from imagesmith.settings import Settings

FILE_NAME: Final = "operator-key.json"
_MEMBERS: Final = ("accessKeyId", "account", "principal", "secret")


def refresh_operator_key(settings: Settings, box: SecretBox, keys: Iterable[AccessKey], now: datetime) -> None:
    """Write the file of the key that is the right one among these. Raises OSError."""
    write_operator_key(settings.data_dir, box, choose_operator_key(keys, settings.account, now))


def choose_operator_key(keys: Iterable[AccessKey], account: str, now: datetime) -> AccessKey | None:
    """The first key without restrictions of the account of the settings, or else the nearest to that."""
    usable = [
        key
        for key in keys
        if not key.session_token and all(end is None or now < end for end in (key.expires, key.retires))
    ]
    return min(
        usable,
        key=lambda key: (not key.policy.is_unrestricted, key.account != account, key.retires is not None),
        default=None,
    )


def write_operator_key(data_dir: Path, box: SecretBox, key: AccessKey | None) -> None:
    """Write the file unless it has this key already; without a key, remove it. Raises OSError."""
    path = data_dir / FILE_NAME
    if key is None:
        path.unlink(missing_ok=True)
        return
    try:
        if read_operator_key(data_dir, box).access_key_id == key.access_key_id:
            return
    except (KeysError, RuntimeError):
        pass  # absent, damaged, or of another key file: written again
    secret = box.seal(key.secret, key.access_key_id)
    values = (key.access_key_id, key.account, key.principal, secret)
    write_atomically(path, json.dumps(dict(zip(_MEMBERS, values, strict=True)), indent=2) + "\n")


def read_operator_key(data_dir: Path, box: SecretBox) -> AccessKey:
    """The key of the file. Raises KeysError, SecretsError."""
    path = data_dir / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        key_id, account, principal, secret = (str(content[name]) for name in _MEMBERS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeysError(f"{path} cannot be read: {error!r}; the next start of a server writes it again") from error
    return AccessKey(key_id, box.unseal(secret, key_id), account, principal)
