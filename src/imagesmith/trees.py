"""Folders that a build wrote: removed and searched whatever is in them.

A build can nest folders deeper than a Python function can recurse, and longer than a path may be. `shutil.rmtree`
and `os.walk` of Python 3.11 recurse once for each level: they end with RecursionError, also with `ignore_errors`.
`rm` and `find` keep their place by descriptors, and cross no mount here. Most folders are small and take less time
than the start of a program: they are done here, and `rm` and `find` do all others.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final

from imagesmith import processes

_log = logging.getLogger(__name__)
_SECONDS: Final = 600.0
_ERROR_BYTES: Final = 4096
_SMALL_ENTRIES: Final = 500
_SMALL_DEPTH: Final = 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeNotRead(OSError):
    """A tree cannot be searched as a whole; the message names the first problem."""


def remove_tree(path: Path) -> bool:
    """Remove a folder with everything in it, or a file; returns whether it is gone.

    What cannot be removed is logged and left to the next clean-up: it must not stop a server or another build.
    """
    if _remove_small(path):
        return True
    done = processes.run(
        ["rm", "--recursive", "--force", "--one-file-system", "--", str(path)], timeout=_SECONDS, limit=_ERROR_BYTES
    )
    if done.returncode != 0:
        _log.warning("%s cannot be removed: %s", path, done.tail(1) or done.ending)
    return done.returncode == 0


@contextmanager
def temporary_tree(*, prefix: str, folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, removed at the end of the block."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield made
    finally:
        remove_tree(made)


def find_names(top: Path, pattern: str, *, limit: int) -> list[str]:
    """Paths below `top`, with a leading slash, whose last part matches a pattern of fnmatch; about `limit` bytes of
    them, sorted. Raises TreeNotRead."""
    small = _find_small(top, pattern, limit)
    if small is not None:
        return small
    done = processes.run(
        ["find", str(top), "-xdev", "-mindepth", "1", "-name", pattern, "-printf", "/%P\\0"],
        timeout=_SECONDS, limit=limit,
    )  # fmt: skip
    if done.returncode != 0:
        raise TreeNotRead(f"{top} cannot be searched: {done.tail(1) or done.ending}")
    found = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    # the first one may have lost its beginning
    return sorted(found[1:] if len(done.stdout) >= limit else found)


class _NotSmall(OSError):
    """A tree is large or deep, or goes on on another file system."""


class _SmallTree:
    """Counts the entries of a tree down while it is walked. Links are never followed."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._left = _SMALL_ENTRIES

    def names(self, folder: int, depth: int) -> list[str]:
        """The names in an open folder. Raises OSError if the tree is not small."""
        if depth > _SMALL_DEPTH or os.fstat(folder).st_dev != self._device:
            raise _NotSmall
        with os.scandir(folder) as found:
            names = [entry.name for entry in islice(found, self._left + 1)]
        self._left -= len(names)
        if self._left < 0:
            raise _NotSmall
        return names

    def remove(self, name: str, parent: int, depth: int = 0) -> None:
        if not _is_folder(name, parent):
            os.unlink(name, dir_fd=parent)
            return
        folder = os.open(name, _FOLDER, dir_fd=parent)
        try:
            for child in self.names(folder, depth):
                self.remove(child, folder, depth + 1)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=parent)

    def find(self, pattern: str, folder: int, path: str = "", depth: int = 0) -> Iterator[str]:
        for name in self.names(folder, depth):
            if fnmatch.fnmatchcase(name, pattern):
                yield f"{path}/{name}"
            if _is_folder(name, folder):
                child = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from self.find(pattern, child, f"{path}/{name}", depth + 1)
                finally:
                    os.close(child)


def _remove_small(path: Path) -> bool:
    """Remove a small tree; returns False if anything of it is left, for whatever reason."""
    with suppress(OSError):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _SmallTree(os.lstat(path).st_dev).remove(path.name, parent)
        finally:
            os.close(parent)
        return True
    return False


def _find_small(top: Path, pattern: str, limit: int) -> list[str] | None:
    """find_names() of a small tree; None for any other."""
    with suppress(OSError):
        folder = os.open(top, _FOLDER)
        try:
            found = sorted(_SmallTree(os.fstat(folder).st_dev).find(pattern, folder))
        finally:
            os.close(folder)
        return found if sum(len(os.fsencode(name)) for name in found) < limit else None
    return None


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
