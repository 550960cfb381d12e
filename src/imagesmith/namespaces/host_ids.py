"""Which ids of this machine the ids of a root are, and making files in it from outside."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imagesmith.namespaces.id_maps import SIZE

_VERSION: Final = 0x20080522
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class HostIds:
    """User and group `n` of a root are `first + n` here."""

    first: int = 0

    def outside(self, inside: int) -> int:
        """Raises ValueError for an id beyond the range, which another build may have."""
        if self.first and not 0 <= inside < SIZE:
            raise ValueError(f"the id {inside} is beyond those of a build, which are 0 to {SIZE - 1}")
        return self.first + inside

    def inside(self, outside: int) -> int:
        return outside - self.first

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """What this thread makes in the block belongs to root inside; it keeps all its rights.

        The kernel refuses files of an id that the root has not (EOVERFLOW), and this process is root outside.
        """
        if not self.first:
            yield
            return
        header = struct.pack("Ii", _VERSION, 0)
        rights = ctypes.create_string_buffer(24)
        if _LIBC.capget(header, rights):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            _LIBC.setfsgid(ctypes.c_uint(self.first))
            _LIBC.setfsuid(ctypes.c_uint(self.first))
            # the kernel takes rights over files from a thread that is no longer root for files
            _LIBC.capset(header, rights)
            yield
        finally:
            _LIBC.setfsuid(ctypes.c_uint(os.geteuid()))
            _LIBC.setfsgid(ctypes.c_uint(os.getegid()))
            _LIBC.capset(header, rights)


DISK_IDS: Final = HostIds()
"""Those of a folder on a disk, where files are numbered from 0."""
