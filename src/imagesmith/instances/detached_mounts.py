"""Mounts that hang nowhere: made here, attached by the spawner where one command alone sees them.

    folder or file --open_tree--> detached mount (a descriptor) --spawner, move_mount--> target, of one command

A descriptor carries them into a sandbox that has no path to their source. They allow neither device nodes nor
set-user-id files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imagesmith.artifacts.rootfs import Root
from imagesmith.instances.protocol import InstanceError
from imagesmith.namespaces.host_ids import DISK_IDS, HostIds
from imagesmith.namespaces.mount_trees import NO_DEVICES, NO_SET_USER_ID, READ_ONLY, clone_tree
from imagesmith.trees import temporary_tree

_MS_NODEV: Final = 4
_DETACH: Final = 2


def detached_mount(root: Path, source: str, *, read_only: bool) -> int:
    """A descriptor of a detached mount of `source`, a folder or file in `root` whose links cannot leave it; the
    caller closes it. Raises FileNotFoundError, OSError."""
    with Root(root) as opened:
        descriptor = opened.open(source or "/", os.O_PATH)
    try:
        attributes = NO_SET_USER_ID | NO_DEVICES | (READ_ONLY if read_only else 0)
        return clone_tree(descriptor, attributes)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def thrown_away(root: Path, work: Path, ids: HostIds = DISK_IDS) -> Iterator[Path]:
    """A writable view of a root; what is written to it is gone with the block. `work` is a folder on a disk,
    `ids` are those of the root.

    Raises InstanceError.
    """
    with temporary_tree(prefix="view-", folder=work) as folder:
        for name in ("upper", "work", "merged"):
            (folder / name).mkdir()
        os.chown(folder / "upper", ids.first, ids.first)
        with _descriptor(root) as lower:
            folders = f"lowerdir=/proc/self/fd/{lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
            options = f"{folders},userxattr"
            libc = ctypes.CDLL(None, use_errno=True)
            target = os.fsencode(folder / "merged")
            if libc.mount(b"overlay", target, b"overlay", _MS_NODEV, os.fsencode(options)) != 0:
                reason = os.strerror(ctypes.get_errno())
                raise InstanceError(
                    f"a mount that can be written needs an overlay over {root}: {reason}; mount it readonly"
                )
        try:
            yield folder / "merged"
        finally:
            libc.umount2(target, _DETACH)


@contextlib.contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
