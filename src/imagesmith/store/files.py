"""Checks of an SQLite file before it is opened: whole, empty or missing; and its permissions."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import quote

import pysqlite3

from imagesmith.store.outage import damaged

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_CHECKED_BYTES = 16 * 1024 * 1024
"""Files up to this size are checked in full at the start; longer files would take too long."""


def make_private(file: Path) -> None:
    """Create a missing file with access for its owner only, which its journals inherit, whatever the umask is."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def is_empty(file: Path) -> bool:
    """Whether the file is missing or holds no table. Raises StoreDamaged."""
    if not file.exists() or (file.stat().st_size == 0 and not _journal_bytes(file)):
        return True
    return _ask(file, "SELECT count(*) FROM sqlite_master") == 0


def require_own(file: Path, table: str) -> None:
    """Raise StoreDamaged for the database of something else: it holds tables, and `table` is not among them."""
    if is_empty(file) or _ask(file, "SELECT count(*) FROM sqlite_master WHERE name = ?", table) != 0:
        return
    raise damaged(file, f"it is another database: it has no table {table}")


def require_whole(file: Path, *, whole: bool = False) -> None:
    """Raise StoreDamaged for a file that is truncated, was overwritten, or fails SQLite's own check.

    A missing file and an empty file are not damaged. `whole`: check every page, also of a large file.
    """
    if not file.exists() or file.stat().st_size == 0:
        return
    with file.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    if header[:16] != _MAGIC:
        raise damaged(file, "it does not start with the header of a SQLite database")
    if len(header) < _HEADER_BYTES:
        raise damaged(file, "it is truncated")
    size = file.stat().st_size
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    # the missing part may still be in the journal, which is applied at the next opening
    if not _journal_bytes(file) and size < pages * (65536 if page == 1 else page):
        raise damaged(file, f"it is truncated: {size} bytes of {pages * (65536 if page == 1 else page)}")
    if whole or size <= _CHECKED_BYTES:
        found = _ask(file, "PRAGMA quick_check(1)")
        if found != "ok":
            raise damaged(file, found)


def _journal_bytes(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.with_name(f"{file.name}-wal").stat().st_size
    return 0


def _ask(file: Path, question: str, *values: str) -> object:
    """The first value of a query's result; None while another process locks the file. Raises StoreDamaged."""
    try:
        with contextlib.closing(
            pysqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=rw", uri=True, timeout=5)
        ) as opened:
            value: object = opened.execute(question, values).fetchone()[0]
            return value
    except pysqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (11, 26):
            raise damaged(file, error) from error
        return None
