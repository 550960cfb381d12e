"""rpm's SQLite database: Packages(hnum, blob), one header a row, perhaps with a -wal file beside it.

The database is untrusted: it is copied out, opened with its schema distrusted and its work bounded.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from imagesmith.inspection.files import Files, UnreadableDatabase, opened
from imagesmith.inspection.rpm.header import MAX_HEADER
from imagesmith.processes import Cancelled

_MAX_STEPS = 20_000
"""Most thousands of SQLite instructions of a reading, so that a view in place of the table cannot loop."""

_CHUNK = 4 * 1024 * 1024


def sqlite_blobs(files: Files, path: str, file: BinaryIO) -> Iterator[bytes]:
    """The header of every package. SQLite opens a database with its journal only by path: hence the copies.

    Raises Unreadable, even after some headers.
    """
    with tempfile.TemporaryDirectory(prefix="imagesmith-rpm-") as folder:
        copy = Path(folder) / "rpmdb.sqlite"
        _copy(files, file, copy)
        with opened(files, f"{path}-wal") as journal:
            if journal is not None:
                _copy(files, journal, copy.with_name(f"{copy.name}-wal"))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                _restrict(connection, files)
                for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
                    yield blob if isinstance(blob, bytes) else b""
        except sqlite3.Error as error:
            files.check()
            raise UnreadableDatabase(f"{path} cannot be read: {error}") from error


def _copy(files: Files, source: BinaryIO, target: Path) -> None:
    with target.open("wb") as out:
        while data := source.read(_CHUNK):
            files.check()
            out.write(data)


def _restrict(connection: sqlite3.Connection, files: Files) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        try:
            files.check()
        except Cancelled:
            return 1
        return int(steps > _MAX_STEPS)

    connection.set_progress_handler(count, 1000)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MAX_HEADER)
