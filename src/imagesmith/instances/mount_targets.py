"""Targets of the mounts of one command: made in the root when they are missing, and removed after it.

A target that the image lacks must exist while something is mounted there, and must not be in a layer: it is removed
unless the command has put something into it, and the times of the folder above are restored.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith.artifacts.rootfs import Root
from imagesmith.instances.protocol import InstanceError
from imagesmith.namespaces.host_ids import DISK_IDS, HostIds

_FOLDER_MODE: Final = 0o755


@dataclass(frozen=True)
class MadeTarget:
    """A name that was made: in which folder, and when that was changed last, before and after, in nanoseconds."""

    folder: str
    name: str
    changed: tuple[int, int]


@contextlib.contextmanager
def mount_targets(
    root: Path, targets: list[tuple[str, bool]], *, ids: HostIds = DISK_IDS
) -> Iterator[None]:  # fmt: skip
    """Have targets in a root with these ids during the block; each is a path and whether it is a folder. Nothing
    may run inside before and after. Raises InstanceError."""
    made: list[MadeTarget] = []
    with Root(root) as opened:
        try:
            with ids.acting():
                for target, is_folder in targets:
                    make_target(opened, target, is_folder=is_folder, made=made)
            yield
        finally:
            with ids.acting():
                remove_targets(opened, made)


def remove_targets(root: Root, made: Sequence[MadeTarget]) -> None:
    """Remove targets, the last one first, unless something is in them."""
    for item in reversed(made):
        with contextlib.suppress(OSError):
            _remove(root, item)


def make_folders(root: Path, path: str, *, uid: int, gid: int, ids: HostIds = DISK_IDS) -> bool:
    """Make a folder and those above it that are missing, owned by a user; links are followed inside the root, which
    has these ids.

    Returns False if it exists. Raises InstanceError.
    """
    made: list[MadeTarget] = []
    with Root(root) as opened, ids.acting():
        make_target(opened, path, is_folder=True, made=made)
        for item in made:
            with opened.folder(item.folder, follow=True) as folder:
                os.chown(item.name, ids.outside(uid), ids.outside(gid), dir_fd=folder, follow_symlinks=False)
    return bool(made)


def make_target(root: Root, target: str, *, is_folder: bool, made: list[MadeTarget]) -> None:
    """Make a folder or an empty file and the folders above it that are missing; each is added to `made`.

    Raises InstanceError.
    """
    words = [word for word in posixpath.normpath(target).split("/") if word]
    for number in range(1, len(words) + 1):
        path, above = "/" + "/".join(words[:number]), "/" + "/".join(words[: number - 1])
        try:
            status = _status(root, path)
            if number < len(words) or is_folder:
                if not stat.S_ISDIR(status.st_mode):
                    raise InstanceError(f"the folder {target} cannot be made: {path} is not a folder")
            elif stat.S_ISDIR(status.st_mode):
                raise InstanceError(f"a file cannot be mounted at {target}, which is a folder")
            continue
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InstanceError(f"{target} cannot be made: {path}: {error.strerror}") from error
        try:
            with root.folder(above, follow=True) as folder:
                before = os.fstat(folder).st_mtime_ns
                _make_name(words[number - 1], folder, is_folder=number < len(words) or is_folder)
                made.append(MadeTarget(above, words[number - 1], (before, os.fstat(folder).st_mtime_ns)))
        except OSError as error:  # a link that leads nowhere, or a name that is too long
            raise InstanceError(f"{target} cannot be made: {path}: {error.strerror}") from error


def _status(root: Root, path: str) -> os.stat_result:
    descriptor = root.open(path, os.O_PATH)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _make_name(name: str, folder: int, *, is_folder: bool) -> None:
    if is_folder:
        os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
        return
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder))


def _remove(root: Root, item: MadeTarget) -> None:
    with root.folder(item.folder, follow=True) as folder:
        status = os.lstat(item.name, dir_fd=folder)
        untouched = os.fstat(folder).st_mtime_ns == item.changed[1]
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(item.name, dir_fd=folder)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(item.name, dir_fd=folder)
        else:
            return
        if untouched:
            os.utime(folder, ns=(os.fstat(folder).st_atime_ns, item.changed[0]))
