"""The places in an image's root that a sandbox mounts over: made before anything runs, undone before a commit."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from imagesmith.artifacts.rootfs import Root
from imagesmith.instances.protocol import InstanceError

MOUNT_POINTS = ("/etc/resolv.conf", "/etc/hosts")

Placed = tuple[tuple[str, str | None], ...]
"""Names in /etc that prepare_root created, with the target of the link that stood there before."""


def prepare_root(path: Path) -> Placed:
    """Make the places exist that a sandbox mounts over; give what restore_root needs to undo it.

    Done from outside, so only while nothing runs inside. Raises InstanceError for a root that cannot be entered:
    no /bin/sh, or links where folders must be.
    """
    placed: list[tuple[str, str | None]] = []
    with Root(path) as root:
        _require_folders(root)
        with root.folder("/") as top:
            _make_folder("etc", top, 0o755)
            _make_folder("tmp", top, 0o1777)
        with root.folder("/etc") as etc:
            for name in (Path(point).name for point in MOUNT_POINTS):
                known, target = _file_or_link(name, etc)
                if known and target is None:
                    continue
                if target is not None:
                    os.unlink(name, dir_fd=etc)
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=etc))
                placed.append((name, target))
    return tuple(placed)


def restore_root(path: Path, placed: Placed) -> None:
    """Undo prepare_root, unless the image has put something else into the place meanwhile."""
    if not placed:
        return
    with contextlib.suppress(OSError), Root(path) as root, root.folder("/etc") as etc:
        for name, target in placed:
            status = os.lstat(name, dir_fd=etc)
            if stat.S_ISREG(status.st_mode) and status.st_size == 0:
                os.unlink(name, dir_fd=etc)
                if target is not None:
                    os.symlink(target, name, dir_fd=etc)


def _require_folders(root: Root) -> None:
    try:
        os.close(root.open("/bin/sh", os.O_PATH))
    except OSError as error:
        raise InstanceError("the image has no /bin/sh: components need a POSIX shell") from error
    with root.folder("/") as top:
        for name in ("etc", "tmp", "proc", "dev"):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                    raise InstanceError(f"the image's /{name} is no folder: nothing can run in it")


def _make_folder(name: str, parent: int, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        os.fchmod(descriptor, mode)
        os.close(descriptor)


def _file_or_link(name: str, parent: int) -> tuple[bool, str | None]:
    """Whether there is something, and where it leads if it is a link."""
    try:
        status = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False, None
    if stat.S_ISLNK(status.st_mode):
        return True, os.readlink(name, dir_fd=parent)
    if not stat.S_ISREG(status.st_mode):
        raise InstanceError(f"the image's /etc/{name} is neither a file nor a link")
    return True, None
