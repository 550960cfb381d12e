"""Which files of a data directory belong into a backup, and what is known of their content.

immutable   named by their digest: blobs of the layout, disks
mutable     everything else; copied first, so that the copy and its digest agree
not at all  caches, working folders, locks, what a running server needs, databases (databases.py)
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

_LEFT_OUT: Final = frozenset({
    "authoring", "backup-drafts", "bases", "before-upgrade", "containers", "disks/drafts", "disks/drafts.lock",
    "machines", "oci/lock", "oci/tmp", "overlays", "rebuilds", "rebuilds.lock", "removals.lock", "reserve",
    "restoring.json", "server.json", "server.lock",
})  # fmt: skip
"""Paths in the data directory; docs/operations.md says why of each."""
SECRETS: Final = frozenset({"secrets.key", "operator-key.json", "signing/ed25519.pem", "tls"})
"""What --no-secrets leaves out too."""
_IMMUTABLE: Final = re.compile(r"(?:oci/blobs/sha256|disks/sha256)/([0-9a-f]{64})")
_DATABASE: Final = re.compile(r"[^/]+\.sqlite(?:-wal|-shm|-journal)?")


@dataclass(frozen=True)
class SourceFile:
    """A regular file of the data directory, as it was when it was found."""

    path: str
    """Relative to the data directory."""
    location: Path
    size: int
    mode: int
    mtime_ns: int
    inode: tuple[int, int]
    links: int
    digest: str
    """What its name says of its content; empty for mutable files."""


def list_files(
    data_dir: Path, *, secrets: bool = True, warn: Callable[[str], None] = lambda _: None
) -> Iterator[SourceFile]:
    """The files to back up, in the order of their paths. Links on the first floor are followed: operators move
    folders to other disks so; deeper ones are left out with a warning. Raises OSError."""
    yield from _list(data_dir, PurePosixPath(), secrets=secrets, warn=warn)


def _list(folder: Path, path: PurePosixPath, *, secrets: bool, warn: Callable[[str], None]) -> Iterator[SourceFile]:
    top = path == PurePosixPath()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return  # removed since its parent was read
    for entry in entries:
        inside = str(path / entry.name)
        if inside in _LEFT_OUT or (not secrets and inside in SECRETS) or (top and _DATABASE.fullmatch(inside)):
            continue
        try:
            status = entry.stat(follow_symlinks=top)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _list(folder / entry.name, path / entry.name, secrets=secrets, warn=warn)
        elif stat.S_ISREG(status.st_mode):
            yield _file(folder / entry.name, inside, status)
        elif stat.S_ISLNK(status.st_mode):
            warn(f"{inside} is a symbolic link inside a folder and is left out")


def _file(location: Path, inside: str, status: os.stat_result) -> SourceFile:
    named = _IMMUTABLE.fullmatch(inside)
    return SourceFile(
        path=inside, location=location, size=status.st_size, mode=stat.S_IMODE(status.st_mode),
        mtime_ns=status.st_mtime_ns, inode=(status.st_dev, status.st_ino), links=status.st_nlink,
        digest=f"sha256:{named[1]}" if named else "",
    )  # fmt: skip
