"""How the kernel's overlay marks in a folder what a layer removes.

whiteout   a character device 0:0 in place of the removed file
opaque     the extended attribute `user.overlay.opaque` of a folder that hides what lies below. An overlay that is
           mounted with `userxattr` reads it, in a user namespace too, where `trusted.overlay.opaque` cannot be set
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

_OPAQUE: Final = "user.overlay.opaque"


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: int) -> bool:
    """Whether an open folder hides what lies below."""
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


def make_opaque(folder: int) -> None:
    os.setxattr(folder, _OPAQUE, b"y")


def make_whiteout(name: bytes, folder: int) -> None:
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)


MakeNode = Callable[[bytes, int, int, int], None]
"""Makes a device node: its name, its type, its device, the open folder."""


def make_device(name: bytes, mode: int, device: int, folder: int) -> None:
    os.mknod(name, mode | 0o600, device, dir_fd=folder)


def open_folder(name: bytes | str, parent: int) -> int | None:
    """A descriptor of a folder in another; None if it is missing or something else, a link for one."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    return None


def open_root(folder: Path | int) -> int:
    """A new descriptor of a folder by path or descriptor, for reading its names."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(b".", flags, dir_fd=folder) if isinstance(folder, int) else os.open(folder, flags)
