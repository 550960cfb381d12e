"""The files of an image's root for readers of package databases: absent, readable, or unreadable.

An unreadable database must not look like one without packages, so None means absent; every other obstacle is
Unreadable, with the reason.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from imagesmith.artifacts.rootfs import Root, RootError
from imagesmith.inspection.packages import Package
from imagesmith.processes import Cancellation

MAX_DATABASE = 2 * 1024 * 1024 * 1024
"""Most bytes of a database; no reader holds one in memory."""

_BUFFER = 64 * 1024
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


class UnreadableDatabase(Exception):
    """A database that exists and cannot be read to its end: names it and the reason."""


class Files(Protocol):
    """The access of readers to a root. Paths have no leading slash."""

    def open(self, path: str) -> BinaryIO | None:
        """A regular file of at most MAX_DATABASE bytes; None when it is absent. Raises Unreadable."""
        ...

    def names(self, path: str) -> Sequence[str]:
        """The names in a folder, sorted; empty when it is absent."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the path exists, even as a dangling link."""
        ...

    def check(self) -> None:
        """Raises Cancelled after a cancellation."""
        ...


@dataclass(frozen=True)
class Reading:
    """The contents of one kind of database. `owners` maps each wanted file's path to its package."""

    packages: frozenset[Package] = frozenset()
    owners: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """Sentences about unreadable parts."""


class RootFiles:
    """Files of a mounted root; nothing outside it is ever opened."""

    def __init__(self, root: Root, cancellation: Cancellation) -> None:
        self._root = root
        self._cancellation = cancellation

    def open(self, path: str) -> BinaryIO | None:
        self.check()
        try:
            descriptor = self._root.open_regular(path)
        except RootError as error:
            raise UnreadableDatabase(f"{path} is {error.strerror}") from error
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise UnreadableDatabase(f"{path} cannot be opened: {error.strerror}") from error
        except ValueError:
            return None
        size = os.fstat(descriptor).st_size
        if size <= MAX_DATABASE:
            return os.fdopen(descriptor, "rb", buffering=_BUFFER)
        os.close(descriptor)
        raise UnreadableDatabase(f"{path} has {size} bytes, and at most {MAX_DATABASE} are read")

    def names(self, path: str) -> Sequence[str]:
        self.check()
        try:
            return self._root.list(path)
        except OSError:
            return ()

    def exists(self, path: str) -> bool:
        try:
            os.close(self._root.open(path, os.O_PATH | os.O_NOFOLLOW))
        except OSError as error:
            return error.errno not in _ABSENT
        return True

    def check(self) -> None:
        self._cancellation.check()


@contextmanager
def opened(files: Files, path: str) -> Iterator[BinaryIO | None]:
    """A file that is closed at the end. Raises Unreadable, for errors of reading as well."""
    file = files.open(path)
    if file is None:
        yield None
        return
    try:
        yield file
    except OSError as error:
        raise UnreadableDatabase(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        file.close()


def lines_of(files: Files, path: str, *, most: int) -> Iterator[bytes]:
    """The lines of a file, with regular checks for cancellation; nothing when the file is absent.

    Only a line feed ends a line. Raises Unreadable once the file is longer than `most` bytes.
    """
    read = 0
    with opened(files, path) as file:
        for number, line in enumerate(file or ()):
            read += len(line)
            if read > most:
                raise UnreadableDatabase(f"{path} is longer than {most} bytes")
            if not number & 0xFFF:
                files.check()
            yield line


def content_of(files: Files, path: str, *, most: int) -> bytes:
    """The first bytes of a file; nothing when it is absent or unreadable. Raises Cancelled."""
    try:
        file = files.open(path)
    except UnreadableDatabase:
        return b""
    if file is None:
        return b""
    with file:
        try:
            return file.read(most)
        except OSError:
            return b""


def damaged_words(path: str, count: int) -> tuple[str, ...]:
    """The problem text for a database with invalid entries; none when all are valid."""
    return (f"{count} {'entry' if count == 1 else 'entries'} of {path} cannot be read",) if count else ()
