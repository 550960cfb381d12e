"""Encryption of secrets at rest: AES-256-GCM with a key in a file of its own.

    DATA/secrets.key     one line: imagesmith-secrets-1:BASE64 of 32 bytes, mode 0600
    sealed text          1:KEY:BASE64 of nonce and ciphertext; KEY is the id of the file's key

A sealed text belongs to a label, such as the id of its access key: under another label it does not open. Servers on
one database share the key: a copy of the file is on each of them.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from imagesmith.files import write_atomically
from imagesmith.settings import Settings
from imagesmith.values.names import sha256_hex

FILE_NAME: Final = "secrets.key"
_HEAD: Final = "imagesmith-secrets-1:"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_VERSION: Final = "1"
_MOST_BYTES: Final = 4096


class SecretsError(RuntimeError):
    """A key file that cannot be used, or a secret that it does not open: names the file and what to do."""


def secrets_file(settings: Settings) -> Path:
    """Where the key file is."""
    return Path(settings.secrets_key_file) if settings.secrets_key_file else settings.data_dir / FILE_NAME


def open_existing(settings: Settings) -> SecretBox:
    """The key file of these settings, which must exist. Raises SecretsError, OSError."""
    return SecretBox.open(secrets_file(settings), may_create=False)


class SecretBox:
    """Seals and opens secrets. Safe to use from several threads."""

    def __init__(self, key: bytes, path: Path) -> None:
        """`path`: the file of the key, for messages."""
        # imported late: commands that only print help do not need it
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self._path = path
        self.key_id = sha256_hex(b"imagesmith key id:" + key)[:12]

    @classmethod
    def open(
        cls, path: Path, *, may_create: bool, entropy: Callable[[int], bytes] = secrets.token_bytes
    ) -> SecretBox:
        """Read the key file; make one if there is none and `may_create`. Raises SecretsError, OSError."""
        if not path.exists():
            if not may_create:
                raise SecretsError(
                    f"the key file {path} is missing, and the database has secrets that only it opens: "
                    "restore it from a backup, or copy it from another server"
                )
            text = f"{_HEAD}{base64.b64encode(entropy(_KEY_BYTES)).decode()}\n"
            # of two first starts at once, both use the key of the first
            write_atomically(path, text, replace=False)
        return cls(_read_key(path), path)

    def seal(self, secret: str, label: str) -> str:
        """The secret as text that only open() with the same label reads."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), label.encode())
        return f"{_VERSION}:{self.key_id}:{base64.b64encode(sealed).decode()}"

    def is_foreign(self, sealed: str) -> bool:
        """Whether a text has the form of sealed ones and another key sealed it."""
        parts = sealed.split(":")
        return len(parts) == 3 and parts[1] != self.key_id

    def unseal(self, sealed: str, label: str) -> str:
        """The secret. Raises SecretsError."""
        from cryptography.exceptions import InvalidTag

        version, _, rest = sealed.partition(":")
        key_id, _, text = rest.partition(":")
        if version != _VERSION:
            raise SecretsError(f"the secret of {label} has an unknown form: a newer version may have written it")
        if key_id != self.key_id:
            raise SecretsError(
                f"the secret of {label} was encrypted with the key {key_id}, and {self._path} has the key "
                f"{self.key_id}: copy the file from the server that wrote it, or restore it from a backup"
            )
        try:
            data = base64.b64decode(text, validate=True)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], label.encode()).decode()
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise SecretsError(
                f"the secret of {label} is damaged in the database: revoke the key, or put the parameter again"
            ) from error


def _read_key(path: Path) -> bytes:
    try:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in (0, os.geteuid()):
            raise SecretsError(f"the key file {path} belongs to user {status.st_uid}: chown {os.geteuid()} {path}")
        if mode & 0o077:
            raise SecretsError(f"the key file {path} can be read by others (mode {mode:04o}): chmod 600 {path}")
        text = path.read_text(encoding="ascii") if status.st_size <= _MOST_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(f"the key file {path} cannot be read: {error}") from error
    try:
        key = base64.b64decode(text.strip().removeprefix(_HEAD), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(_HEAD) or len(key) != _KEY_BYTES:
        raise SecretsError(
            f"the key file {path} is damaged (one line {_HEAD}KEY is expected): restore it from a backup, or copy "
            "it from another server"
        )
    return key
