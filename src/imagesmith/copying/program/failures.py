"""What a COPY or ADD fails with, and the bounds that it keeps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class UserFailure(Exception):
    """The instruction cannot be carried out; the text is for its author."""


class PathlessFailure(UserFailure):
    """A failure whose text does not name its file yet; about() adds it."""


@dataclass
class CopyBudget:
    """What one instruction may still do. Raises UserFailure when a bound is reached."""

    entries: int
    depth: int
    size: int
    download: int
    until: float
    """When it must be done, by the monotonic clock."""
    made: int = field(default=0, init=False)
    written: int = field(default=0, init=False)

    def entry(self) -> None:
        """Count one file, folder, link or device."""
        self.made += 1
        if self.made > self.entries:
            raise UserFailure(f"it has more than {self.entries} files; copy fewer folders")
        self.check_time()

    def check_listed(self, count: int) -> None:
        if count > self.entries:
            raise UserFailure(f"a folder has more than {self.entries} entries; copy fewer files")

    def check_depth(self, depth: int, path: str) -> None:
        if depth > self.depth:
            raise UserFailure(f"{shown(path)}: folders are nested more than {self.depth} deep")

    def wrote(self, count: int) -> None:
        """Count bytes of files."""
        self.written += count
        if self.written > self.size:
            raise UserFailure(f"its files have more than {self.size} bytes; copy fewer files")
        self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.until:
            raise UserFailure("it takes longer than the time that is left for it")


@contextmanager
def about(path: str) -> Iterator[None]:
    """Name the path in the errors of system calls on it, whose own names are short."""
    try:
        yield
    except PathlessFailure as error:
        raise UserFailure(f"{shown(path)}: {error}") from error
    except OSError as error:
        raise UserFailure(f"{shown(path)}: {reason(error)}") from error


def reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def shown(path: str) -> str:
    """A path of an image in a message: printable, and not too long."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"
