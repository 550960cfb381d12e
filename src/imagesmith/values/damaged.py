"""The error for all damaged files of the data directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

RESTORE = "restore it from a backup, see docs/operations.md, Backup and restore"


class DamagedFile(RuntimeError):
    """The text names the file, the damage and the remedy."""


def damage(file: Path, why: object, remedy: str = RESTORE) -> str:
    """The text of such an error."""
    return f"{file} is damaged ({why}): {remedy}"


def misplaced(error: BaseException) -> str:
    """The text for an OSError about a file in place of a folder, or the reverse; else empty."""
    if not isinstance(error, OSError) or not error.filename:
        return ""
    path = Path(os.fsdecode(error.filename))
    if error.errno == errno.EISDIR:
        return f"{path} is a folder, and a file is needed there"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        found = next((parent for parent in (path, *path.parents) if parent.exists() and not parent.is_dir()), None)
        return f"{found} is a file, and a folder is needed there" if found is not None else ""
    return ""
