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
from imagesmith.trees import temporary_tree

_SYS_OPEN_TREE: Final = 428
_SYS_MOUNT_SETATTR: Final = 442
_OPEN_TREE_CLONE: Final = 1
_AT_EMPTY_PATH: Final = 0x1000
_ATTR_READ_ONLY: Final = 1
_ATTR_NO_SET_USER_ID: Final = 2
_ATTR_NO_DEVICES: Final = 4
_MS_NODEV: Final = 4
_DETACH: Final = 2


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))


def detached_mount(root: Path, source: str, *, read_only: bool) -> int:
    """A descriptor of a detached mount of `source`, a folder or file in `root` whose links cannot leave it; the
    caller closes it. Raises FileNotFoundError, OSError."""
    with Root(root) as opened:
        place = opened.open(source or "/", os.O_PATH)
    try:
        return _clone(place, read_only=read_only)
    finally:
        os.close(place)


@contextlib.contextmanager
def thrown_away(root: Path, work: Path) -> Iterator[Path]:
    """A writable view of a root; what is written to it is gone with the block. `work` is a folder on a disk.

    Raises InstanceError.
    """
    with temporary_tree(prefix="view-", folder=work) as folder:
        for name in ("upper", "work", "merged"):
            (folder / name).mkdir()
        with _descriptor(root) as lower:
            options = f"lowerdir=/proc/self/fd/{lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
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


def _clone(place: int, *, read_only: bool) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC
    tree = libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(place), ctypes.c_char_p(b""), ctypes.c_uint(flags)
    )
    if tree < 0:
        raise OSError(ctypes.get_errno(), f"open_tree: {os.strerror(ctypes.get_errno())}")
    wanted = _ATTR_NO_SET_USER_ID | _ATTR_NO_DEVICES | (_ATTR_READ_ONLY if read_only else 0)
    attributes = _MountAttributes(wanted, 0, 0, 0)
    failed = libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_uint(_AT_EMPTY_PATH),
        ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)),
    )  # fmt: skip
    if failed:
        code = ctypes.get_errno()
        os.close(tree)
        raise OSError(code, f"mount_setattr: {os.strerror(code)}")
    return int(tree)
