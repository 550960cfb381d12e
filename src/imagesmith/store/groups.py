"""Group commit for SQLite: changes that wait for each other share one COMMIT, and so one flush to the disk.

    first change    BEGIN IMMEDIATE, SAVEPOINT, its statements, RELEASE; someone waits: leave the transaction open
    next changes                     SAVEPOINT, their statements, RELEASE (or ROLLBACK TO: only this one is undone)
    last change                      SAVEPOINT, its statements, RELEASE; nobody waits: COMMIT, wake all of the group

A thread that has several changes at hand makes them `together`: it keeps the turn over all of them, and no thread
is woken in between.

Invariants: changes run one after another, each sees those before it, and none is reported done before the COMMIT
that holds it. A COMMIT that fails fails every change of the group. A group is at most `_MOST` changes long, and
when those who waited gave up, one of its members closes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy.engine import Connection

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

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """One change, undone alone when anything is raised."""
        # straight to the driver: around three short words SQLAlchemy's own work would cost more than theirs
        execute = self.connection.connection.cursor().execute
        execute("SAVEPOINT change")
        try:
            yield self.connection
        except BaseException:
            try:
                execute("ROLLBACK TO change")
                execute("RELEASE change")
            except Exception as error:
                # a full disk makes SQLite undo the whole transaction: nothing of the group is left to commit
                self.error = error
            raise
        execute("RELEASE change")
        self.size += 1


class _Together(threading.local):
    """What the thread that looks at it makes together."""

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
        self._together = _Together()

    @contextmanager
    def write(self, patience: float) -> Iterator[Connection]:
        """One change; returns when it is on the disk. Raises TurnNotCome and what the database raises."""
        joined = self._together.group
        if joined is not None:
            if joined.error is not None:
                raise joined.error
            with joined.change() as connection:
                yield connection
            return
        self._take_turn(patience)
        try:
            if self._group is None:
                self._group = _Group(self._begin(patience))
            group = self._group
            try:
                with group.change() as connection:
                    yield connection
            finally:
                if group.error is not None or self._waiting == 0 or group.size >= _MOST:
                    self._close(group)
        finally:
            self._turn.release()
        self._await(group)

    @contextmanager
    def together(self, patience: float) -> Iterator[None]:
        """Changes that this thread makes until the end are one group; returns when they are on the disk.

        Each is undone alone when it raises. Raises TurnNotCome and what a locked database raises before it begins,
        and what the database raises at the end: then none of the changes is to be reported done.
        """
        self._take_turn(patience)
        try:
            if self._group is None:
                self._group = _Group(self._begin(patience))
            group = self._together.group = self._group
            try:
                yield
            finally:
                self._together.group = None
                self._close(group)
        finally:
            self._turn.release()
            if self._waiting:
                time.sleep(_STEP_ASIDE_SECONDS)
        if group.error is not None:
            raise group.error

    def _take_turn(self, patience: float) -> None:
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
