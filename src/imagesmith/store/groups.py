"""Group commit for SQLite: changes that wait for each other share one COMMIT, and so one flush to the disk.

    first change    BEGIN IMMEDIATE, SAVEPOINT, its statements, RELEASE; others wait: leave the transaction open
    next changes                     SAVEPOINT, their statements, RELEASE (or ROLLBACK TO: only this one is undone)
    last change                      SAVEPOINT, its statements, RELEASE; none waits: COMMIT, wake all of the group

A caller with several changes makes them `together`: it keeps the turn over all of them, and no thread is woken in
between. Different threads may begin, write and commit such a group, one after the other.

Invariants: changes run one after another, each sees the changes before it, and none is reported done before its
COMMIT. A COMMIT that fails fails every change of the group. A group has at most `_MOST` changes; when all waiting
threads timed out, one of its members closes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType

from sqlalchemy.engine import Connection

from imagesmith.store.prepared import driver_of

_MOST = 32
_LOOK_SECONDS = 0.02
"""How often a member checks whether no thread is left to close its group."""
_STEP_ASIDE_SECONDS = 0.001
"""Time that a thread which would take the turn again at once leaves to waiting threads."""


class TurnNotCome(Exception):
    """Timed out waiting for the turn to write."""


class _Group:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.size = 0
        self.done = threading.Event()
        self.error: BaseException | None = None


class _Change:
    """One change of a group, undone alone after an exception.

    It uses the driver directly: SQLAlchemy's overhead would exceed the cost of three short statements.
    """

    __slots__ = ("_execute", "_group")

    def __init__(self, group: _Group) -> None:
        if group.error is not None:
            raise group.error
        self._group = group
        self._execute = driver_of(group.connection).execute

    def __enter__(self) -> Connection:
        self._execute("SAVEPOINT change")
        return self._group.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._execute("RELEASE change")
            self._group.size += 1
            return
        try:
            self._execute("ROLLBACK TO change")
            self._execute("RELEASE change")
        except Exception as undone:
            # on a full disk SQLite rolls back the whole transaction: no change of the group is left to commit
            self._group.error = undone


class _Joined(threading.local):
    """The group that the current thread writes to."""

    group: _Group | None = None


class GroupWriter:
    """Grants the turn to write to one thread at a time. `begin` opens a connection with a write transaction."""

    def __init__(self, begin: Callable[[float], Connection]) -> None:
        self._begin = begin
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0
        self._group: _Group | None = None
        """The open transaction; only the thread with the turn uses it."""
        self._joined = _Joined()

    def write(self, patience: float) -> AbstractContextManager[Connection]:
        """One change; the context ends when the change is on the disk, or at once within this thread's own group.

        Raises TurnNotCome and errors of the database.
        """
        joined = self._joined.group
        return self._write_alone(patience) if joined is None else _Change(joined)

    @contextmanager
    def _write_alone(self, patience: float) -> Iterator[Connection]:
        self._take_turn(patience)
        try:
            if self._group is None:
                self._group = _Group(self._begin(patience))
            group = self._group
            try:
                with _Change(group) as connection:
                    yield connection
            finally:
                if group.error is not None or self._waiting == 0 or group.size >= _MOST:
                    self._close(group)
        finally:
            self._turn.release()
        self._await(group)

    def begin_group(self, patience: float) -> GroupedChanges:
        """Begin a group of changes. Raises TurnNotCome and the errors of a locked database."""
        self._take_turn(patience)
        try:
            if self._group is None:
                self._group = _Group(self._begin(patience))
            return GroupedChanges(self, self._group)
        except BaseException:
            self._turn.release()
            raise

    @contextmanager
    def join(self, group: _Group) -> Iterator[None]:
        """Within the context, the writes of this thread belong to a group."""
        self._joined.group = group
        try:
            yield
        finally:
            self._joined.group = None

    def end(self, group: _Group) -> None:
        """Commit a group of changes and release the turn. Raises errors of the database."""
        try:
            self._close(group)
        finally:
            self._turn.release()
            if self._waiting:
                time.sleep(_STEP_ASIDE_SECONDS)
        if group.error is not None:
            raise group.error

    def _take_turn(self, patience: float) -> None:
        if self._turn.acquire(blocking=False):
            return
        with self._count:
            self._waiting += 1
        try:
            if not self._turn.acquire(timeout=patience):
                raise TurnNotCome
        finally:
            with self._count:
                self._waiting -= 1

    def _await(self, group: _Group) -> None:
        while not group.done.wait(_LOOK_SECONDS):
            if self._turn.acquire(blocking=False):
                try:
                    if self._group is group:
                        self._close(group)
                finally:
                    self._turn.release()
        if group.error is not None:
            raise group.error

    def _close(self, group: _Group) -> None:
        """Commit, and wake the members; the caller has the turn."""
        self._group = None
        try:
            if group.error is None:
                group.connection.commit()
        except Exception as error:
            group.error = error
        finally:
            with suppress(Exception):
                group.connection.rollback()
            group.connection.close()
            group.done.set()


class GroupedChanges:
    """Changes of one group, which keeps the turn from the first to the last. end() must follow, in any thread.

    A change that raises is undone alone; when end() raises, none of the changes may be reported as done.
    """

    def __init__(self, writer: GroupWriter, group: _Group) -> None:
        self._writer = writer
        self._group = group

    def joined(self) -> AbstractContextManager[None]:
        """Within the context, the writes of this thread belong to the group."""
        return self._writer.join(self._group)

    def end(self) -> None:
        """Commit; returns when all changes are on the disk."""
        self._writer.end(self._group)
