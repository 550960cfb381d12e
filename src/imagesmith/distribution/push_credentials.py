"""The credentials of a push, in a file that skopeo reads and that exists during the push.

The password is read from its file into a credentials file (0600, in a private folder); it is never an argument, and
is removed from every line that is logged or raised.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith.distribution.push_request import AttemptFailure, Push

_MAX_PASSWORD: Final = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """The credentials file for skopeo, and the secrets that logs must not hold."""

    file: Path
    secrets: tuple[str, ...]

    def hide(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


@contextmanager
def credentials_file(push: Push) -> Iterator[Credentials]:
    """The credentials file during the push. It is empty without a user name, so skopeo reads no other file."""
    auths: dict[str, dict[str, str]] = {}
    secrets: tuple[str, ...] = ()
    if push.registry.username or push.registry.password_file:
        password = _password(push)
        encoded = base64.b64encode(f"{push.registry.username}:{password}".encode()).decode()
        auths[push.registry.url.split("/", 1)[0]] = {"auth": encoded}
        secrets = (encoded, password)
    with tempfile.TemporaryDirectory(prefix="imagesmith-push-", dir=push.scratch) as folder:
        file = Path(folder) / "auth.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"auths": auths}), encoding="ascii")
        yield Credentials(file, secrets)


def _password(push: Push) -> str:
    registry = push.registry
    doing, hint = "reading the credentials", "set username and password_file of this registry in the settings"
    if not registry.username or ":" in registry.username or not registry.password_file:
        words = f"username {registry.username!r} with password_file {registry.password_file!r} cannot be used"
        push.fail(AttemptFailure(doing, words, True, hint), tag="", attempt=0)
    try:
        with Path(registry.password_file).open("rb") as file:
            data = file.read(_MAX_PASSWORD + 1)
        password = data.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        # A UnicodeDecodeError quotes a byte of the password: do not show its text.
        words = str(error) if isinstance(error, OSError) else f"password file {registry.password_file}: not UTF-8"
        push.fail(AttemptFailure(doing, words, True, hint), tag="", attempt=0)
    if not password or len(data) > _MAX_PASSWORD:
        words = f"password file {registry.password_file} is empty or longer than {_MAX_PASSWORD} bytes"
        push.fail(AttemptFailure(doing, words, True, hint), tag="", attempt=0)
    return password
