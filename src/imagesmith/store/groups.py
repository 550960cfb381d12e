"""Group commit for SQLite: changes that wait for each other share one COMMIT, and so one flush to the disk.

    first change    BEGIN IMMEDIATE, SAVEPOINT, its statements, RELEASE; someone waits: leave the transaction open
    next changes                     SAVEPOINT, their statements, RELEASE (or ROLLBACK TO: only this one is undone)
    last change                      SAVEPOINT, its statements, RELEASE; nobody waits: COMMIT, wake all of the group

Whoever has several changes at hand makes them `together`: the turn is kept over all of them, and no thread is woken
in between. Such a group may be begun, written to and committed by different threads, one after the other.

Invariants: changes run one after another, each sees those before it, and none is reported done before the COMMIT
that holds it. A COMMIT that fails fails every change of the group. A group is at most `_MOST` changes long, and
when those who waited gave up, one of its members closes it.
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
"""How often a member looks whether nobody is left to close its group."""
_STEP_ASIDE_SECONDS = 0.001
"""What a thread that would take the turn again at once leaves to those who wait for it."""


class TurnNotCome(Exception):
    """The turn to write did not come in time."""


class _Group:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.size = 0
        self.done = threading.Event()
        self.error: BaseException | None = None


class _Change:
    """One change of a group, undone alone when anything is raised.

    Straight to the driver: around three short words SQLAlchemy's own work would cost more than theirs.
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
            # a full disk makes SQLite undo the whole transaction: nothing of the group is left to commit
            self._group.error = undone


class _Joined(threading.local):
    """What the thread that looks at it writes to."""

    group: _Group | None = None


class GroupWriter:
    """Gives the turn to write to one thread at a time. `begin` opens a connection with a write transaction."""

    def __init__(self, begin: Callable[[float], Connection]) -> None:
        self._begin = begin
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0
        self._group: _Group | None = None
        """The open transaction; only who has the turn looks at it."""
        self._joined = _Joined()

    def write(self, patience: float) -> AbstractContextManager[Connection]:
        """One change; its end comes when it is on the disk, or with the changes that this thread makes together.

        Raises TurnNotCome and what the database raises.
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

    def together(self, patience: float) -> Together:
        """Begin changes that are one group. Raises TurnNotCome and what a locked database raises."""
        self._take_turn(patience)
        try:
            if self._group is None:
                self._group = _Group(self._begin(patience))
            return Together(self, self._group)
        except BaseException:
            self._turn.release()
            raise

    @contextmanager
    def join(self, group: _Group) -> Iterator[None]:
        """What this thread writes until the end is part of a group."""
        self._joined.group = group
        try:
            yield
        finally:
            self._joined.group = None

    def end(self, group: _Group) -> None:
        """Commit what was made together, and leave the turn. Raises what the database raises."""
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
        """Commit, and wake the members; called with the turn."""
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


class Together:
    """Changes that are one group and keep the turn from the first to the last. end() must come, from any thread.

    Each change is undone alone when it raises; when end() raises, none of them is to be reported done.
    """

    def __init__(self, writer: GroupWriter, group: _Group) -> None:
        self._writer = writer
        self._group = group

    def joined(self) -> AbstractContextManager[None]:
        """What this thread writes until the end of the context is one of the changes."""
        return self._writer.join(self._group)

    def end(self) -> None:
        """Commit: returns when all of it is on the disk."""
        self._writer.end(self._group)
