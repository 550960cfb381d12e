"""Random access to the bytes of a raw disk in an open file."""

from __future__ import annotations

import os


class RawDisk:
    """Readable (partitions.py); the file may grow no more."""

    def __init__(self, descriptor: int) -> None:
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)
