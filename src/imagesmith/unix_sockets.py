"""Addresses of Unix sockets in folders whose paths may be long."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def short_address(socket: Path) -> Iterator[str]:
    """An address of `socket` that the processes of this user may use while the context lasts.

    The kernel limits addresses to 107 bytes; a data directory or TMPDIR may be longer. The address names an open
    descriptor of the folder instead of its path.
    """
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/{os.getpid()}/fd/{folder}/{socket.name}"
    finally:
        os.close(folder)
