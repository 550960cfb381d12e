"""Access keys of servers under test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from imagesmith.accounts.key_follower import KeyFollower
from imagesmith.accounts.keys import AccessKey
from imagesmith.accounts.operator_key import read_operator_key, write_operator_key
from imagesmith.accounts.secret_box import FILE_NAME, SecretBox
from imagesmith.settings import Settings
from imagesmith.store.database import Database


def operator_key(data_dir: Path) -> AccessKey:
    """The key of commands, as the server of the data directory wrote it."""
    return read_operator_key(data_dir, SecretBox.open(data_dir / FILE_NAME, may_create=False))


def give_operator_key(data_dir: Path, key: AccessKey) -> None:
    """The files of a data directory whose server would have this key."""
    write_operator_key(data_dir, SecretBox.open(data_dir / FILE_NAME, may_create=True), key)


def followed_keys(
    settings: Settings, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> KeyFollower:
    """The keys of a server, which takes in the key file of its data directory first."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return KeyFollower(settings, database, clock=clock)
