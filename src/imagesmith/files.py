"""Writes files that are complete or absent, even after kill -9, a power cut or a full disk.

    write to a draft --> fsync --> rename over the target --> fsync of the folder
                  '--> on any failure the draft is removed and the target stays as it was

A reader never sees half a file, and a written file survives a power cut. A process that is killed in the middle
leaves its draft: a caller with a folder for drafts cleans it up; elsewhere the draft is a small hidden file
beside the target, which a later write of the target removes: a draft of this module if no writer holds its lock, a
draft of a tool, which may replace the locked file, once it is a day old.

Drafts have random names: process and thread ids are equal in two containers that share a data directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

PRIVATE: Final = 0o600
READABLE: Final = 0o644
_LONGEST_NAME: Final = 255
_TOOL: Final = "tool-"
_SUFFIX: Final = re.compile(rf"({_TOOL}|(?<=\.))[0-9a-f]{{16}}\Z")
_STALE_SECONDS: Final = 86400.0
"""No tool writes a draft for that long."""


def write_atomically(
    target: Path, data: bytes | str, *, mode: int = PRIVATE, drafts: Path | None = None, replace: bool = True
) -> bool:
    """Create or replace a file; returns False if it exists and `replace` is false. Raises OSError.

    `mode` is exact, whatever the umask. `drafts`: a folder on the same file system that is cleaned up. Without
    `replace`, one of two processes that create the file at the same time wins, and both read the same content.
    """
    content = data.encode() if isinstance(data, str) else data
    while True:
        with _draft(target, drafts) as draft, _created(draft) as file:
            if not _lock(file.fileno()):
                continue  # another writer took the draft for that of a killed one: it gets another name
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # locked until it has its final name
            if replace:
                draft.replace(target)
            else:
                try:
                    os.link(draft, target)  # a rename would replace what another process has just created
                except FileExistsError:
                    return False
        flush(target.parent)
        return True


def write_draft(target: Path, data: bytes | str) -> None:
    """Write a new private file into a folder that nobody reads yet, and that means nothing after a restart of the
    machine: it is not flushed. Raises OSError."""
    with _created(target) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def written_atomically(target: Path, *, drafts: Path | None = None) -> Iterator[Path]:
    """Path of a draft that any tool may write; it becomes `target` at the end. Raises OSError."""
    with _draft(target, drafts, mark=_TOOL) as draft:
        yield draft
        move_atomically(draft, target)


def move_atomically(source: Path, target: Path, *, mode: int | None = None) -> None:
    """Rename a complete file within its file system to its final name, replacing any file there. Raises OSError."""
    if mode is not None:
        source.chmod(mode)
    flush(source)
    source.replace(target)
    flush(target.parent)


def move_many(sources: Iterable[Path], folder: Path) -> None:
    """Rename complete files into a folder of their file system, with one flush of the machine for all of them: a
    flush for each costs more than its copy. Raises OSError."""
    os.sync()
    for source in sources:
        source.replace(folder / source.name)
    flush(folder)


def share_file(source: Path, target: Path) -> None:
    """Make a file the same as another, which nobody changes any more: a further name of it, or a flushed copy where
    the file system has no such names. Raises OSError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)
    flush(target)


def flush(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, so that they survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # file systems that cannot flush a folder (some FUSE and network file systems) fail with EINVAL
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _draft(target: Path, folder: Path | None, *, mark: str = "") -> Iterator[Path]:
    if folder is not None:
        # the process id comes first, for a person who looks for the writer
        draft = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
    else:
        suffix = f"{mark}{secrets.token_hex(8)}"
        draft = target.with_name(_draft_name(target, suffix))
        _remove_stale(target)
    try:
        yield draft
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _created(draft: Path) -> IO[bytes]:
    return os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE), "wb")


def _lock(descriptor: int) -> bool:
    """Lock a new draft, which no other writer removes then; returns False if it is removed already."""
    with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.fstat(descriptor).st_nlink > 0


def _remove_stale(target: Path) -> None:
    """Remove the drafts of a target that killed writers left."""
    # a draft that cannot be removed does no harm, and another writer may have removed it
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            found = _SUFFIX.search(entry.name)
            if found is None or entry.name != _draft_name(target, found[0]):
                continue
            if found[1] != _TOOL:
                _remove_unlocked(Path(entry.path))
            elif entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE_SECONDS:
                Path(entry.path).unlink()


def _remove_unlocked(draft: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # not locked: its writer died, or has not locked it yet and will make another
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
        finally:
            os.close(descriptor)


def _draft_name(target: Path, suffix: str) -> str:
    return f".{target.name}.{suffix}"[-_LONGEST_NAME:]
