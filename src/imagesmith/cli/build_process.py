"""What surrounds the work of a process that builds: its privileges before, its failures as sentences after."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from imagesmith.accounts.keys import KeysError
from imagesmith.accounts.secret_box import SecretsError
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import StorageError
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.data_directory import unusable
from imagesmith.cli.screen import echo
from imagesmith.engine.dbos_private import IncompatibleDBOS
from imagesmith.instances.isolation import IsolationError, private_mounts
from imagesmith.locks import LockHeld
from imagesmith.settings import Settings, SettingsError
from imagesmith.store.database import StoreUnavailable
from imagesmith.store.workers import WorkerNameTaken
from imagesmith.values.damaged import DamagedFile

_UMASK = 0o022


def isolate_process() -> None:
    """Make results and mounts independent of the caller. Call it before any thread exists."""
    # results of builds must not depend on the user's umask; private files are made private one by one
    os.umask(_UMASK)
    # later mounts disappear with this process, even on kill -9
    try:
        private_mounts()
    except IsolationError as error:
        echo(f"warning: no private mounts ({error}): after a kill -9 the next start removes the mounts", err=True)


@contextmanager
def failures_as_sentences(settings: Settings, *, holder: str, work: str) -> Iterator[None]:
    """Raise what a start raises as CommandFailed.

    `holder`: what else may use the data directory; `work`: what the process could not do ("serve").
    """
    try:
        yield
    except LockHeld as error:
        raise CommandFailed(
            f"another {holder} (process {error.holder}) uses the data directory {settings.data_dir}",
            "stop that process, or use another --data-dir",
        ) from error
    except (SettingsError, WorkerNameTaken, IncompatibleDBOS, DamagedFile) as error:
        raise CommandFailed(str(error)) from error
    except (StoreUnavailable, KeysError, SecretsError, StorageError, SharedStoreError, OSError) as error:
        raise unusable(error, f"{work} from {settings.data_dir}") from error
