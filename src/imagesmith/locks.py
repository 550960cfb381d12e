"""Locks between processes, which the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesmith.processes import Cancellation
from imagesmith.retries import constant, retrying

_POLL_SECONDS = 0.1


class LockHeld(RuntimeError):
    """Another process holds the lock; `holder` is the text that it wrote into the file."""

    def __init__(self, path: Path, holder: str) -> None:
        self.path = path
        self.holder = holder
        super().__init__(f"the lock {path} is held by process {holder or 'unknown'}")


@contextmanager
def file_lock(path: Path, *, shared: bool = False, cancellation: Cancellation | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file, between threads as well as processes; waits. Raises Cancelled.

    `shared`: any number of holders share it, and none has it exclusively meanwhile.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if cancellation is None:
            fcntl.flock(descriptor, kind)
        else:
            _wait(descriptor, kind, cancellation)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def shared_lock_now(path: Path) -> Iterator[bool]:
    """Share a lock on a file without waiting; False: another holds it exclusively."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, and write the holder into it. Raises LockHeld without waiting."""
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


@contextmanager
def visitor_lock(path: Path, *, alone: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock that any number of processes share; the value is whether `alone` was called.

    It is called for a process that finds no other holder, while newcomers wait, so that it can clean up.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        first = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            first = False
        if first:
            alone()
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield first
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file."""
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


def _wait(descriptor: int, kind: int, cancellation: Cancellation) -> None:
    retrying(
        lambda: fcntl.flock(descriptor, kind | fcntl.LOCK_NB),
        retry=lambda failed: isinstance(failed.error, BlockingIOError),
        backoff=constant(_POLL_SECONDS), cancellation=cancellation,
    )  # fmt: skip
