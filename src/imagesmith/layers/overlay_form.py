"""How the kernel's overlay marks in a folder what a layer removes.

whiteout   a character device 0:0 in place of the removed file
opaque     an extended attribute of a folder that hides what lies below: `trusted.overlay.opaque`, or, of an
           overlay that is mounted in a user namespace with `userxattr`, `user.overlay.opaque`
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from enum import Enum


class OverlayForm(Enum):
    """Whose extended attributes mark a layer's folders; the two are not interchangeable."""

    TRUSTED = "trusted.overlay."
    USER = "user.overlay."

    @property
    def opaque(self) -> str:
        return f"{self.value}opaque"


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: int, form: OverlayForm) -> bool:
    """Whether an open folder hides what lies below."""
    try:
        return os.getxattr(folder, form.opaque) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


def make_opaque(folder: int, form: OverlayForm) -> None:
    os.setxattr(folder, form.opaque, b"y")


def make_whiteout(name: bytes, folder: int) -> None:
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)


def open_folder(name: bytes | str, parent: int) -> int | None:
    """A descriptor of a folder in another; None if it is missing or something else, a link for one."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    return None
