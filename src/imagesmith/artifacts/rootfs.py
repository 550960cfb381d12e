"""Accesses files inside an image's root from outside, where the image controls every symbolic link.

The kernel resolves each path as if the root were `/` (openat2 with RESOLVE_IN_ROOT), so neither an absolute link
nor `..` leads to a file of the host, and magic links of /proc are refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYS_OPENAT2 = 437
_NO_MAGICLINKS = 0x02
_NO_SYMLINKS = 0x04
_IN_ROOT = 0x10
_RETRIES = 32

DEFAULT_LIMIT = 16 * 1024 * 1024


class RootError(OSError):
    """A file of an image's root is not as expected: too long, or not a regular file."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Root:
    """The root folder of an image, by path or by a descriptor that stays the caller's; use as a context manager."""

    def __init__(self, root: Path | int) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._descriptor = os.dup(root) if isinstance(root, int) else os.open(root, flags)
        self.path = Path(f"/proc/self/fd/{self._descriptor}") if isinstance(root, int) else root
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open(self, path: str, flags: int = os.O_RDONLY, *, mode: int = 0, follow: bool = True) -> int:
        """A file descriptor; the caller closes it. `follow=False` refuses any symbolic link on the way."""
        created = mode if flags & os.O_CREAT else 0
        how = _OpenHow(flags | os.O_CLOEXEC, created, _IN_ROOT | _NO_MAGICLINKS | (0 if follow else _NO_SYMLINKS))
        for _ in range(_RETRIES):
            result = self._libc.syscall(
                ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(self._descriptor), ctypes.c_char_p(os.fsencode(path)),
                ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)),
            )  # fmt: skip
            if result >= 0:
                return int(result)
            # A rename anywhere on the machine makes the kernel unsure whether `..` left the root: try again.
            if ctypes.get_errno() != errno.EAGAIN:
                break
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)

    def open_regular(self, path: str) -> int:
        """A descriptor of a regular file, for reading; the caller closes it.

        Raises OSError, and RootError for anything else: a device node of the image is never opened, because its
        driver would act on the host. O_PATH opens nothing.
        """
        descriptor = self.open(path, os.O_PATH)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RootError(errno.EINVAL, "not a regular file", path)
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(descriptor)

    def read(self, path: str, *, limit: int = DEFAULT_LIMIT) -> bytes:
        """The bytes of a regular file. Raises FileNotFoundError, or RootError if it is not a file or too long."""
        with os.fdopen(self.open_regular(path), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise RootError(errno.EFBIG, f"longer than {limit} bytes", path)
        return data

    def list(self, path: str) -> list[str]:
        """Names in a folder, sorted; empty if the folder does not exist."""
        try:
            descriptor = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(descriptor))  # noqa: PTH208 - a descriptor has no path
        finally:
            os.close(descriptor)

    @contextmanager
    def folder(self, path: str, *, follow: bool = False) -> Iterator[int]:
        """A descriptor of a folder, for the `dir_fd` of os functions on the names in it."""
        descriptor = self.open(path, os.O_RDONLY | os.O_DIRECTORY, follow=follow)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
