"""A lock between processes that the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesmith.processes import Cancellation

_POLL_SECONDS = 0.1


class LockHeld(RuntimeError):
    """Somebody else holds the lock; `holder` is what they wrote into its file."""

    def __init__(self, path: Path, holder: str) -> None:
        self.path = path
        self.holder = holder
        super().__init__(f"the lock {path} is held by process {holder or 'unknown'}")


@contextmanager
def file_lock(path: Path, *, cancellation: Cancellation | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file; waits, between threads as well as processes. Raises Cancelled."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if cancellation is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _wait(descriptor, cancellation)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def sole_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which then says which process holds it. Raises LockHeld at once."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeld(path, os.pread(descriptor, 32, 0).decode(errors="replace").strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _wait(descriptor: int, cancellation: Cancellation) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cancellation.wait(_POLL_SECONDS)
            cancellation.check()
        else:
            return
