"""Mounts that hang nowhere: a folder or file as a descriptor that can be attached elsewhere, with other ids.

path or descriptor --clone_tree--> detached mount --attach_tree--> target
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import Final

_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_OPEN_TREE_CLONE: Final = 1
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_IDMAP: Final = 0x100000

READ_ONLY: Final = 1
NO_SET_USER_ID: Final = 2
NO_DEVICES: Final = 4


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))


def clone_tree(source: Path | int, attributes: int = NO_DEVICES, *, namespace: int = -1, clear: int = 0) -> int:
    """A descriptor of a detached mount of a folder or file; the caller closes it. Raises OSError.

    `namespace`: a user namespace whose ids the files have there; -1: those that they have here. `clear`: attributes
    that it has here and not there.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    folder, name = (source, b"") if isinstance(source, int) else (_AT_FDCWD, os.fsencode(source))
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC
    tree = libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(folder), ctypes.c_char_p(name), ctypes.c_uint(flags)
    )
    if tree < 0:
        raise _failed("open_tree", source)
    wanted = _Attributes(attributes | (_IDMAP if namespace >= 0 else 0), clear, 0, max(namespace, 0))
    failed = libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_uint(_AT_EMPTY_PATH),
        ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)),
    )  # fmt: skip
    if failed:
        error = _failed("mount_setattr", source)
        os.close(tree)
        raise error
    return int(tree)


def clone_own_file(source: Path, namespace: int) -> int:
    """A detached, read-only mount of a file or folder of ours that root of the namespace can read, whatever its
    owner and mode; on a file system that has no other ids, it must be readable for all."""
    with contextlib.suppress(OSError):
        return clone_tree(source, READ_ONLY | NO_SET_USER_ID | NO_DEVICES, namespace=namespace)
    return clone_tree(source, READ_ONLY | NO_SET_USER_ID | NO_DEVICES)


def attach_tree(tree: int, target: Path) -> None:
    """Mount a detached mount at a path of this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(tree), ctypes.c_char_p(b""), ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )  # fmt: skip
    if failed:
        raise _failed("move_mount", target)


def _failed(call: str, source: Path | int) -> OSError:
    code = ctypes.get_errno() or errno.EIO
    name = source if isinstance(source, Path) else None
    return OSError(code, f"{call}: {os.strerror(code)}", *([str(name)] if name else []))
