"""Emergency disk space, so that a build can write its end on a full disk.

    data_dir/reserve    a file without content that holds _RESERVE bytes of the disk

State takes a few kilobytes, builds take gigabytes. When little is free, the file is removed before state is
written, and made again once several times its size is free. If that does not suffice, because something else has
filled the disk, the writer waits: the end of a build may be late, but it is not lost.

Elsewhere a full disk is handled in builds/failures.py (the reason of a failed step), store/outage.py (StoreFull)
and engine/run_execution.py (a journal that cannot be written).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from pathlib import Path

from imagesmith.processes import Cancellation

_log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_RESERVE = 24 * _MIB
_PLENTY = 4 * _RESERVE
"""The reserve is made again above this number of free bytes."""
_LITTLE = 16 * _MIB
"""The reserve is removed below this number of free bytes."""
_ENOUGH = 2 * _MIB
"""Free bytes that writing state needs."""
_PAUSE_SECONDS = 1.0


class EmergencyDiskSpace:
    """The reserve of one data directory. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "reserve"
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Free bytes of the disk."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def require(self) -> None:
        """Raise OSError if state cannot be written."""
        if self.adjust() < _ENOUGH:
            raise OSError(errno.ENOSPC, "no space is left on the disk", str(self._folder))

    def wait_for_disk_space(self, cancellation: Cancellation) -> None:
        """Wait until state can be written. Raises Cancelled."""
        if self.adjust() >= _ENOUGH:
            return
        _log.warning("the disk of %s is full: builds wait until %d MiB are free", self._folder, _ENOUGH // _MIB)
        while self.free < _ENOUGH:
            cancellation.wait(_PAUSE_SECONDS)
            cancellation.check()

    def adjust(self) -> int:
        """Remove the reserve or make it again, if due; returns the free bytes after that."""
        with self._lock:
            free = self.free
            if free < _LITTLE:
                self._file.unlink(missing_ok=True)
                return self.free
            if free > _PLENTY and not self._file.exists():
                self._make()
        return free

    def _make(self) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE)
            except OSError:
                self._file.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
