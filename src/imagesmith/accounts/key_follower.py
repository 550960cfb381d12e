"""Opens the keys of a server, and keeps them as the database has them while it runs.

    start: secrets of another key file? --> refused; secure parameters that lie open are encrypted
           keys.json is taken in and removed --> a first key if there is none --> ring, operator-key.json
    later: the number of the changes, a few times a second --other--> load --> ring, operator-key.json

A change of a key holds for every server on the database within SOON_SECONDS.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from imagesmith.accounts.key_file import FILE_NAME, read_key_file
from imagesmith.accounts.key_store import KeyStore
from imagesmith.accounts.keys import KeyRing
from imagesmith.accounts.operator_key import refresh_operator_key
from imagesmith.accounts.sealed_parameters import has_sealed_parameters, seal_parameters
from imagesmith.accounts.secret_box import SecretBox, secrets_file
from imagesmith.files import flush
from imagesmith.periodic import Periodic
from imagesmith.settings import Settings
from imagesmith.store.access_keys import KeyState, all_keys
from imagesmith.store.database import Database, StoreUnavailable

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
SOON_SECONDS: Final = 1.0
"""After this time every server that reaches the database obeys a change."""


def open_box(settings: Settings, database: Database) -> SecretBox:
    """The key file; made when the database has no secrets yet. Raises SecretsError, OSError."""
    has_keys = any(key.state is KeyState.ACTIVE for key in database.query(all_keys))
    return SecretBox.open(secrets_file(settings), may_create=not has_keys and not has_sealed_parameters(database))


class KeyFollower:
    """The keys of a running server. Call close() at its end."""

    def __init__(self, settings: Settings, database: Database, *, clock: Callable[[], datetime]) -> None:
        """Raises KeysError, SecretsError, OSError, StoreUnavailable."""
        self._settings = settings
        self.data_dir = settings.data_dir
        self._clock = clock
        self._box = open_box(settings, database)
        self.store = KeyStore(database, self._box, partition=settings.partition, clock=clock)
        self.store.require_opened()
        seal_parameters(database, self._box)
        take_in_key_file(settings.data_dir, self.store)
        self.store.require_one(settings.account)
        # of two first starts at once, with a key file each, the second must not start without a key
        self.store.require_opened()
        self.ring = KeyRing(())
        self._revision = -1
        self.refresh()
        self._periodic = Periodic(
            "keys", self.refresh, seconds=POLL_SECONDS, failing="changes of access keys cannot be read",
            working="changes of access keys are read again",
            expected=lambda error: isinstance(error, StoreUnavailable),
        )  # fmt: skip

    def start(self) -> None:
        self._periodic.start()

    def close(self) -> None:
        self._periodic.stop()

    def refresh(self) -> None:
        """Load the keys if they changed since."""
        revision = self.store.revision()
        if revision != self._revision:
            keys = self.store.load()
            self.ring.set_keys(keys)
            refresh_operator_key(self._settings, self._box, keys, self._clock())
            self._revision = revision


def take_in_key_file(data_dir: Path, store: KeyStore) -> None:
    """Move the keys of keys.json into the database. Raises KeysError, OSError."""
    path = data_dir / FILE_NAME
    if not path.exists():
        return
    others_read = stat.S_IMODE(path.stat().st_mode) & 0o077
    keys = read_key_file(path)
    added = store.take_in(keys)
    # only now: a crash before leaves the file, and the next start compares
    path.unlink()
    flush(data_dir)
    _log.warning("%d of %d keys of %s were new; they are encrypted in the database now", added, len(keys), path)
    if others_read:
        _log.warning("other users of this machine could read %s: replace its keys with imagesmith key rotate", path)
