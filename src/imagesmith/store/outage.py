"""Outages of the database: one rule for both kinds of database, and an error class for each case.

    another writer did not end          StoreBusy
    no space is left                    StoreFull        SQLITE_FULL, 53100, or an I/O error on a full disk
    the file is not a whole database    StoreDamaged     names the file and what to do
    any other temporary problem         StoreUnavailable stopped, starting, out of connections, locks, no access

An outage is not a failure of the interrupted work: a request is refused for now, the clock pauses, a build waits.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from imagesmith.values.damaged import RESTORE, DamagedFile, damage

_FULL = ("53100",)
_BUSY = ("55P03", "40001", "40P01")
"""A lock that timed out, a serialisation failure, a deadlock: a retry helps."""
_DAMAGED = ("XX001", "XX002")
_PASSING_STATES = ("25P03", "25006")
"""SQL states besides operational errors: idle for too long (we were frozen), a server that became a standby."""
_LASTING_CLASSES = ("54",)
"""Operational errors that are not outages: a statement beyond the limits of the program fails again."""

# SQLite's primary result codes
_ERROR, _READONLY, _BUSY_CODE, _LOCKED, _IOERR, _CORRUPT, _FULL_CODE, _NOTADB = 1, 8, 5, 6, 10, 11, 13, 26
_ENOUGH_BYTES = 256 * 1024


class StoreUnavailable(RuntimeError):
    """The database cannot be reached or does not answer in time."""


class StoreBusy(StoreUnavailable):
    """Another writer of the scope did not end in time."""


class StoreFull(StoreUnavailable):
    """The disk of the database has no space left."""


class StoreDamaged(StoreUnavailable, DamagedFile):
    """The file of the database was damaged."""


class StoreNewer(StoreUnavailable):
    """A newer version of imagesmith wrote the database."""


class StoreAway(BaseException):
    """A run waits for the database: control flow, not a failure of the run.

    A BaseException: a handler that explains failures must not catch it.
    """


def is_outage(error: BaseException) -> bool:
    """Whether an error comes from an outage of the database, and not from its use."""
    return isinstance(error, StoreUnavailable | StoreAway) or outage(error) is not None


def outage(
    error: BaseException, *, patience: float | None = None, file: Path | None = None
) -> StoreUnavailable | None:
    """The outage behind an error of SQLAlchemy, or None when the statement is wrong.

    `patience`: the seconds of waiting for a lock; `file`: the file of SQLite.
    """
    if isinstance(error, sa.exc.TimeoutError):
        return StoreBusy(f"all connections to the database are in use: {error}")
    if isinstance(error, sa.exc.PendingRollbackError):
        return StoreUnavailable(f"the connection broke in the middle of a transaction: {error}")
    if not isinstance(error, sa.exc.DBAPIError):
        return None
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return _of_sqlite(int(code) & 0xFF, str(error.orig), patience, file)
    return _of_postgresql(error, patience)


def damaged(file: Path, why: object) -> StoreDamaged:
    """The error for an SQLite file that does not hold a whole database."""
    return StoreDamaged(damage(file, why))


def _of_sqlite(code: int, text: str, patience: float | None, file: Path | None) -> StoreUnavailable | None:
    if code in (_CORRUPT, _NOTADB):
        return damaged(file or Path("the database"), text)
    if code in (_BUSY_CODE, _LOCKED):
        return StoreBusy(_busy_message(text, patience))
    if code == _FULL_CODE or (code == _IOERR and file is not None and _is_full(file)):
        return StoreFull(f"no space is left on the disk of {file or 'the database'} ({text})")
    # a wrong statement, a violated constraint, a value that does not fit: every retry fails as well
    passing = code not in (_ERROR, 18, 19, 20, 21, 25)
    return StoreUnavailable(f"{file}: {text}" if file is not None else text) if passing else None


def _is_full(file: Path) -> bool:
    try:
        found = os.statvfs(file.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _ENOUGH_BYTES


def _of_postgresql(error: sa.exc.DBAPIError, patience: float | None) -> StoreUnavailable | None:
    text = str(error.orig)
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _FULL:
        return StoreFull(f"no space is left on the disk of PostgreSQL: {text}")
    if state in _DAMAGED:
        return StoreDamaged(f"PostgreSQL reports that its data are damaged ({text}): {RESTORE}")
    if state in _BUSY:
        return StoreBusy(_busy_message(text, patience))
    if error.connection_invalidated or state in _PASSING_STATES or isinstance(error, sa.exc.InterfaceError):
        return StoreUnavailable(text)
    passing = isinstance(error, sa.exc.OperationalError) and state[:2] not in _LASTING_CLASSES
    return StoreUnavailable(text) if passing else None


def _busy_message(text: str, patience: float | None) -> str:
    if patience is None:
        return f"another writer has not finished: {text}"
    return f"another writer did not end within {patience:g} seconds: {text}"
