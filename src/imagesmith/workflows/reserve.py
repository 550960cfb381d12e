"""Space that is kept back, so that a full disk cannot keep the end of a build from being written.

    data_dir/reserve    a file without content that holds _RESERVE bytes of the disk

State is a few kilobytes; builds are gigabytes. When little is free, the file is removed before state is written,
and made again once there is room for it several times over. Where even that does not help, because something else
has filled the disk, the writer waits: the end of a build may come late, never not at all.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from imagesmith.processes import Cancellation
from imagesmith.store.database import StoreUnavailable

_log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_RESERVE = 24 * _MIB
_PLENTY = 4 * _RESERVE
"""Free bytes above which the reserve is made (again)."""
_LITTLE = 16 * _MIB
"""Free bytes below which the reserve is given up."""
_ENOUGH = 2 * _MIB
"""Free bytes with which state can be written."""
_PAUSE_SECONDS = 1.0

Value = TypeVar("Value")


class DiskReserve:
    """The reserve of one data directory; safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "reserve"
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def require(self) -> None:
        """Raise OSError when state cannot be written."""
        if self.adjust() < _ENOUGH:
            raise OSError(errno.ENOSPC, "no space is left on the disk", str(self._folder))

    def make_room(self, cancellation: Cancellation) -> None:
        """Return when state can be written. Raises Cancelled."""
        if self.adjust() >= _ENOUGH:
            return
        _log.warning("the disk of %s is full: builds wait until %d MiB are free", self._folder, _ENOUGH // _MIB)
        while self.free < _ENOUGH:
            cancellation.wait(_PAUSE_SECONDS)
            cancellation.check()

    def adjust(self) -> int:
        """Give the reserve up or make it again, whichever is due; the bytes that are free then."""
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


def insist(action: Callable[[], Value], reserve: DiskReserve, cancellation: Cancellation) -> Value:
    """What a write of state gives, tried again for as long as the database is not available. Raises Cancelled."""
    warned = False
    while True:
        try:
            return action()
        except StoreUnavailable as error:
            if not warned:
                _log.warning("state cannot be written (%s); trying again until it can", error)
                warned = True
            reserve.make_room(cancellation)
            cancellation.wait(_PAUSE_SECONDS)
            cancellation.check()
