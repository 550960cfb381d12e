"""Mount points of a sandbox in an image's root: made before anything runs, removed before a commit."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path

from imagesmith.artifacts.rootfs import Root
from imagesmith.instances.mount_targets import MadeTarget, make_target, remove_targets
from imagesmith.instances.protocol import InstanceError

_SANDBOX = ("/proc/", "/dev/")
"""Folders that the sandbox covers with its own."""

MOUNT_POINTS = ("/etc/resolv.conf", "/etc/hosts")

FOLDERS = {"etc": 0o755, "tmp": 0o1777, "proc": 0o755, "dev": 0o755}
"""Folders of the root that the sandbox needs, with their modes."""


@dataclass(frozen=True)
class ReplacedLink:
    """A link as it was, so that the one that is put back equals it and no layer carries it."""

    target: str
    status: os.stat_result


@dataclass(frozen=True)
class RootAdditions:
    """Mount points that prepare_root added to a root."""

    names: tuple[tuple[str, ReplacedLink | None], ...] = ()
    """Files in /etc, with the link that each replaced."""
    folders: tuple[str, ...] = ()
    targets: tuple[MadeTarget, ...] = ()
    """What the links in /etc lead to, where that was missing."""
    files: tuple[tuple[str, str], ...] = ()
    """Files of the outer namespaces, and where in the root they are seen."""
    changed: tuple[int, int] = (0, 0)
    """When /etc was last changed, in nanoseconds: before and after names were placed in it."""


def has_shell(path: Path) -> bool:
    """Whether a root has the shell that commands need."""
    with Root(path) as root:
        try:
            os.close(root.open("/bin/sh", os.O_PATH))
        except OSError:
            return False
    return True


def prepare_root(path: Path, *, points: tuple[str, ...] = MOUNT_POINTS) -> RootAdditions:
    """Make the mount points of a sandbox; returns the record that restore_root needs to undo it.

    Works from outside, so nothing may run inside meanwhile. Raises InstanceError for a root that cannot be entered:
    links in place of folders.
    """
    names: list[tuple[str, ReplacedLink | None]] = []
    targets: list[MadeTarget] = []
    files: list[tuple[str, str]] = []
    with Root(path) as root:
        with root.folder("/") as top:
            _require_folders(top)
            made = tuple(name for name, mode in FOLDERS.items() if _make_folder(name, top, mode))
        with root.folder("/etc") as etc:
            before = os.fstat(etc).st_mtime_ns
            for point in points:
                name = Path(point).name
                known, link = _file_or_link(name, etc)
                behind = _behind_link(root, link.target, targets) if link is not None else ""
                files.append((point, behind or point))
                if behind or (known and link is None):
                    continue
                if link is not None:
                    os.unlink(name, dir_fd=etc)
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=etc))
                names.append((name, link))
            after = os.fstat(etc).st_mtime_ns
    return RootAdditions(
        names=tuple(names),
        folders=made,
        targets=tuple(targets),
        files=tuple(files),
        changed=(before, after),
    )


def _behind_link(root: Root, target: str, made: list[MadeTarget]) -> str:
    """The path of the file that a link in /etc leads to, without links in it; it is made if it is missing.

    Empty for one that leads into the sandbox's own folders, or that cannot be made: the link is replaced then.
    """
    candidate = posixpath.join("/etc", target)
    before = len(made)
    try:
        try:
            path = _real_path(root, candidate)
        except FileNotFoundError:
            make_target(root, candidate, is_folder=False, made=made)
            path = _real_path(root, candidate)
    except (OSError, InstanceError):
        path = ""
    if path and not path.startswith(_SANDBOX):
        return path
    remove_targets(root, made[before:])
    del made[before:]
    return ""


def _real_path(root: Root, path: str) -> str:
    """The path of a regular file in a root without links in it; empty for anything else. Raises OSError."""
    descriptor = root.open(path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        real = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)
    top = str(root.path.resolve())
    return real.removeprefix(top) if real.startswith(f"{top}/") else ""


def restore_root(path: Path, added: RootAdditions) -> None:
    """Undo prepare_root; a mount point that the build has replaced or filled is kept."""
    if added == RootAdditions():
        return
    with contextlib.suppress(OSError), Root(path) as root:
        remove_targets(root, added.targets)
        with contextlib.suppress(OSError), root.folder("/etc") as etc:
            untouched = os.fstat(etc).st_mtime_ns == added.changed[1]
            for name, link in added.names:
                with contextlib.suppress(FileNotFoundError):
                    _take_back(name, link, etc)
            if untouched and added.names:
                os.utime(etc, ns=(os.fstat(etc).st_atime_ns, added.changed[0]))
        with root.folder("/") as top:
            for name in added.folders:
                with contextlib.suppress(OSError):  # not empty: the build added files
                    os.rmdir(name, dir_fd=top)


def _take_back(name: str, link: ReplacedLink | None, etc: int) -> None:
    status = os.lstat(name, dir_fd=etc)
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        os.unlink(name, dir_fd=etc)
        if link is not None:
            os.symlink(link.target, name, dir_fd=etc)
            os.chown(name, link.status.st_uid, link.status.st_gid, dir_fd=etc, follow_symlinks=False)
            times = (link.status.st_atime_ns, link.status.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=etc, follow_symlinks=False)


def _require_folders(top: int) -> None:
    for name in FOLDERS:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                raise InstanceError(f"the image's /{name} is not a folder: nothing can run in it")


def _make_folder(name: str, parent: int, mode: int) -> bool:
    """Returns False if it exists already."""
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return False
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    os.fchmod(descriptor, mode)
    os.close(descriptor)
    return True


def _file_or_link(name: str, parent: int) -> tuple[bool, ReplacedLink | None]:
    """Whether the name exists, and the link if it is one."""
    try:
        status = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False, None
    if stat.S_ISLNK(status.st_mode):
        return True, ReplacedLink(os.readlink(name, dir_fd=parent), status)
    if not stat.S_ISREG(status.st_mode):
        raise InstanceError(f"the image's /etc/{name} is neither a file nor a link")
    return True, None
