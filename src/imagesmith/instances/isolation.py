"""A mount namespace for the server, so that its mounts end with it, however it is killed.

Without it everything still works, but the mounts of a killed server remain until the clean-up of the next start.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000


class IsolationError(OSError):
    """The kernel refuses a namespace; the text names the missing permission or feature."""


def private_mounts() -> None:
    """Give this process its own, recursively private mounts; call once, before any other thread starts.

    A namespace belongs to a thread: threads that exist already would keep the machine's mounts.
    Raises IsolationError when the process has other threads or may not do this.
    """
    if threading.active_count() > 1 or len(list(Path("/proc/self/task").iterdir())) > 1:
        raise IsolationError("private mounts must be made before the process starts threads")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        _fail("cannot make a mount namespace (CAP_SYS_ADMIN is needed)")
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None) != 0:
        _fail("cannot make the mounts private")


def _fail(text: str) -> None:
    code = ctypes.get_errno()
    raise IsolationError(code, f"{text}: {os.strerror(code)}")
