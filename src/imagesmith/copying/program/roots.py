"""Roots of images, by descriptors: every path is resolved inside, and no link, device or magic link leads out.

`resolve` follows the links of a path and returns names without links; all that is opened later is opened without
following any, so whatever changes meanwhile is an error and never another file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from imagesmith.copying.program.failures import UserFailure, about, shown

_SYS_OPENAT2: Final = 437
_NO_MAGICLINKS: Final = 0x02
_NO_SYMLINKS: Final = 0x04
_IN_ROOT: Final = 0x10
_RETRIES: Final = 32
_MOST_LINKS: Final = 255
"""Links in one path, as BuildKit follows them."""
_MOST_NAMES: Final = 4096
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
FOLDER: Final = _READ | os.O_DIRECTORY
_MOST_BYTES: Final = 16 * 1024 * 1024

_LIBRARY: Final = ctypes.CDLL(None, use_errno=True)


class _OpenHowRequest(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def words_of(path: str) -> list[str]:
    return [word for word in path.split("/") if word not in ("", ".")]


def text_of(names: Sequence[str]) -> str:
    return "/" + "/".join(names)


class RootFolder:
    """A root folder by an open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def resolve(self, path: str) -> tuple[str, ...]:
        """The names that a path leads to, its last link followed too; missing names are kept as they are."""
        done: list[str] = []
        left = words_of(path)[::-1]
        links = 0
        while left:
            word = left.pop()
            if word == "..":
                del done[-1:]
                continue
            target = self._link_target([*done, word], path)
            if target is None:
                done.append(word)
                continue
            links += 1
            left += words_of(target)[::-1]
            if links > _MOST_LINKS or len(left) > _MOST_NAMES:
                raise UserFailure(f"{shown(path)}: too many levels of symbolic links")
            if target.startswith("/"):
                done.clear()
        return tuple(done)

    def status(self, names: Sequence[str]) -> os.stat_result | None:
        """What is at names without links; None if there is nothing."""
        try:
            descriptor = self._open(names, os.O_PATH | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link is on the way
                return None
            raise
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def folder(self, names: Sequence[str]) -> Iterator[int]:
        """A descriptor of an existing folder. Raises OSError."""
        descriptor = self._open(names, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def deep_folder(self, names: Sequence[str]) -> Iterator[int]:
        """As folder(), for a path of any length."""
        descriptor = os.open(".", FOLDER, dir_fd=self.descriptor)
        try:
            for name in names:
                inner = open_folder_in(descriptor, name)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes | None:
        """A small regular file, links followed; None if there is none."""
        names = self.resolve(path)
        try:
            descriptor = self._open(names, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with about(path), os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserFailure(f"{shown(path)} is not a file")
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UserFailure(f"{shown(path)} is longer than {_MOST_BYTES} bytes")
        return data

    def _link_target(self, names: Sequence[str], path: str) -> str | None:
        with about(path):
            try:
                descriptor = self._open(names, os.O_PATH | os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                    return None
                return os.readlink("", dir_fd=descriptor)
            finally:
                os.close(descriptor)

    def _open(self, names: Sequence[str], flags: int) -> int:
        path = os.fsencode("/".join(names) or ".")
        how = _OpenHowRequest(flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGICLINKS | _NO_SYMLINKS)
        for _ in range(_RETRIES):
            result = _LIBRARY.syscall(
                ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(self.descriptor), ctypes.c_char_p(path),
                ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)),
            )  # fmt: skip
            if result >= 0:
                return int(result)
            # a rename anywhere on the machine makes the kernel unsure whether `..` left the root
            if ctypes.get_errno() != errno.EAGAIN:
                break
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def status_in(folder: int, name: str) -> os.stat_result | None:
    """What a name is in a folder, links not followed."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_folder_in(folder: int, name: str) -> int:
    return os.open(name, FOLDER, dir_fd=folder)
