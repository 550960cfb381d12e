"""Checks the data directory before anything in it is opened: owner, permissions, completeness."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from pathlib import Path

from imagesmith.backups.manifest import RESTORING
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.screen import echo
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.store.files import is_empty, make_private, require_own, require_whole
from imagesmith.store.migrate import is_new
from imagesmith.values.damaged import RESTORE, DamagedFile, damage, misplaced

_FOLDERS = (
    "advisories", "bases", "containers", "disks", "log-groups", "logs", "machines", "oci", "overlays", "signing",
)  # fmt: skip
_FILES = {"imagesmith.sqlite": "alembic_version", "engine.sqlite": "dbos_migrations"}
"""Each database, and the table that is made first in it."""
_OWN_REFERENCE = re.compile(r"\d{12}/")
"""References of built images, which contain an account; references of bases do not."""
_OTHERS = 0o077
_CHANGED_BY_OTHERS = 0o022
_HINTS = {
    errno.EROFS: "the file system is mounted read-only: remount it, or use another --data-dir",
    errno.ENOSPC: "free some space, or use another --data-dir",
    errno.EDQUOT: "free some space, or use another --data-dir",
    errno.ENOLCK: "the file system does not support locks (as some NFS do not): choose another one for --data-dir",
    errno.ENOTSUP: "the file system lacks what builds need: choose ext4, xfs or btrfs for --data-dir",
    errno.EACCES: "run it as root, or use a --data-dir of your own",
    errno.EPERM: "run it as root, or use a --data-dir of your own",
}


def prepare(data_dir: Path) -> None:
    """Create a private data directory; refuse one that other users could change. Raises CommandFailed, OSError."""
    if data_dir.exists() and not data_dir.is_dir():
        raise CommandFailed(
            f"{data_dir} is not a directory", "use a --data-dir that is a directory or can be created"
        )
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (data_dir / RESTORING).exists():
        raise CommandFailed(
            f"{data_dir} is half restored from a backup", "run `imagesmith restore` with the same backup again"
        )
    status = data_dir.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise CommandFailed(
            f"the data directory {data_dir} belongs to user {status.st_uid}, who could change builds",
            f"chown -R {os.geteuid()} {data_dir}, or use another --data-dir",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & _CHANGED_BY_OTHERS:
        raise CommandFailed(
            f"the data directory {data_dir} can be changed by others (mode {mode:04o})", f"chmod 700 {data_dir}"
        )
    if mode & _OTHERS:
        echo(f"warning: others can read the data directory (mode {mode:04o}); run: chmod 700 {data_dir}", err=True)
    for name in _FOLDERS:
        folder = data_dir / name
        folder.mkdir(mode=0o700, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & _OTHERS:
            folder.chmod(0o700)


def require_databases(settings: Settings, *, new: bool) -> None:
    """Refuse databases that are damaged, or are missing beside images; make those of SQLite private.

    `new`: empty databases are expected. Raises CommandFailed, DamagedFile.
    """
    require_key(settings.data_dir)
    if settings.database_url:
        return
    files = [settings.data_dir / name for name in _FILES]
    for file in files:
        require_whole(file)
        require_own(file, _FILES[file.name])
    lost = [file for file in files if is_empty(file)]
    if lost and not new and holds_images(settings.data_dir):
        raise CommandFailed(_missing(str(lost[0]), settings.data_dir), _NEW_HINT)
    for file in files:
        make_private(file)


def require_schema(settings: Settings, database: Database, *, new: bool) -> None:
    """Refuse a database of PostgreSQL without tables beside images. Raises CommandFailed."""
    if settings.database_url and not new and is_new(database) and holds_images(settings.data_dir):
        raise CommandFailed(_missing("the database at database_url", settings.data_dir), _NEW_HINT)


_NEW_HINT = f"{RESTORE}; or start with an empty database with --new: existing images are then unknown"


def _missing(what: str, data_dir: Path) -> str:
    return f"{what} is missing or empty, but {data_dir} contains built images"


def holds_images(data_dir: Path) -> bool:
    """Whether builds ran here, beyond bases: images in the layout, or logs."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        entries = json.loads((data_dir / "oci" / "index.json").read_bytes())["manifests"]
        names = [(entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") for entry in entries]
        if any(_OWN_REFERENCE.match(str(name)) for name in names):
            return True
    logs = data_dir / "logs"
    return logs.is_dir() and any(files for _, _, files in os.walk(logs))


def require_key(data_dir: Path) -> None:
    """Raise DamagedFile for a truncated signing key: a build would fail only at its end."""
    key = data_dir / "signing" / "ed25519.pem"
    if key.exists():
        lines = key.read_bytes().split()
        if not (lines[:1] == [b"-----BEGIN"] and lines[-1:] == [b"KEY-----"]):
            raise DamagedFile(damage(key, "it is not a PEM key"))


def unusable(error: Exception, what: str) -> CommandFailed:
    """The failure of a command that could not `what` (serve from DIR): the cause and a hint."""
    number = error.errno if isinstance(error, OSError) else None
    full = number in (errno.ENOSPC, errno.EDQUOT)
    if wrong := misplaced(error):
        return CommandFailed(f"cannot {what}: {wrong}", "move it away, or use another --data-dir")
    words = "no space is left on the disk" if full else str(error)
    return CommandFailed(f"cannot {what}: {words}", _HINTS.get(number or 0, ""))
