"""One lock between what removes artifacts and a backup, which needs all that the records name until its end.

removing(data_dir)         held while an image is removed; removals run beside each other
keeping_all(data_dir)      held by a backup: removals wait, and a second backup does too
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from imagesmith.locks import file_lock, shared_lock_now
from imagesmith.processes import Cancellation

_NAME: Final = "removals.lock"


def removing(data_dir: Path, cancellation: Cancellation | None = None) -> AbstractContextManager[None]:
    """Remove artifacts inside; waits for a backup. Raises Cancelled."""
    return file_lock(data_dir / _NAME, shared=True, cancellation=cancellation)


def removing_now(data_dir: Path) -> AbstractContextManager[bool]:
    """Whether artifacts may be removed inside: not while a backup runs. For what may be removed later as well."""
    return shared_lock_now(data_dir / _NAME)


def keeping_all(data_dir: Path, cancellation: Cancellation | None = None) -> AbstractContextManager[None]:
    """No artifact is removed inside; waits for removals that run, and for another backup. Raises Cancelled."""
    return file_lock(data_dir / _NAME, cancellation=cancellation)
