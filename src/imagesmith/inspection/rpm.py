"""Packages of rpm's SQLite database, read without rpm.

    var/lib/rpm/rpmdb.sqlite           or usr/lib/sysimage/rpm/rpmdb.sqlite, each perhaps with a -wal beside it
      Packages(hnum, blob)             one header a package:

        entries u32 | bytes u32 | entries x (tag u32, type u32, offset u32, count u32) | bytes of data

All numbers are big-endian. The database is untrusted: it is copied out, opened with its schema distrusted and its
work bounded, and a header that makes no sense gives no package, never an error.
"""

from __future__ import annotations

import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from imagesmith.inspection.packages import MAX_FIELD, MAX_PACKAGES, OpenFile, Package

_PATHS = ("var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite")
_MAX_HEADER = 8 * 1024 * 1024
_MAX_ENTRIES = 4096
_MAX_STEPS = 20_000
"""Thousands of SQLite instructions that reading may take: a view in the place of the table cannot loop."""

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1022, 1044
_STRINGS = frozenset({6, 9})
_INT32 = 4
_ENTRY = struct.Struct(">IIII")


def read_rpm(open_file: OpenFile) -> tuple[Package, ...]:
    """The installed packages, sorted; empty when the root has no database that can be read."""
    for path in _PATHS:
        data = open_file(path)
        if data:
            found = {package for blob in _blobs(data, open_file(f"{path}-wal")) if (package := parse_header(blob))}
            return tuple(sorted(found, key=lambda item: item.order))
    return ()


def parse_header(blob: bytes) -> Package | None:
    """The package that an rpm header describes; None when it is damaged, or the key of a signer."""
    if not 8 <= len(blob) <= _MAX_HEADER:
        return None
    count, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * count
    if not 0 < count <= _MAX_ENTRIES or start + size > len(blob):
        return None
    store = blob[start : start + size]
    texts: dict[int, str] = {}
    epoch = 0
    for index in range(count):
        tag, kind, offset, _ = _ENTRY.unpack_from(blob, 8 + 16 * index)
        if tag in (_NAME, _VERSION, _RELEASE, _ARCH, _SOURCE) and kind in _STRINGS:
            texts[tag] = _text(store, offset)
        elif tag == _EPOCH and kind == _INT32 and offset + 4 <= len(store):
            (epoch,) = struct.unpack_from(">I", store, offset)
    return _package(texts, epoch)


def _package(texts: dict[int, str], epoch: int) -> Package | None:
    name, version, release = (texts.get(tag, "") for tag in (_NAME, _VERSION, _RELEASE))
    if not name or not version or name == "gpg-pubkey":
        return None
    full = f"{epoch}:" if epoch else ""
    full += f"{version}-{release}" if release else version
    # <name>-<version>-<release>.src.rpm
    source = texts.get(_SOURCE, "").rsplit("-", 2)[0]
    return Package(name, full, texts.get(_ARCH, ""), source or name, kind="rpm")


def _text(store: bytes, offset: int) -> str:
    end = store.find(b"\0", offset, offset + MAX_FIELD + 1)
    return store[offset:end].decode(errors="replace") if end >= 0 else ""


def _blobs(data: bytes, journal: bytes | None) -> Iterator[bytes]:
    """The header of every package. SQLite opens files, not bytes that come with a journal: hence the copies."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-rpm-") as folder:
        path = Path(folder) / "rpmdb.sqlite"
        path.write_bytes(data)
        if journal:
            path.with_name(f"{path.name}-wal").write_bytes(journal)
        try:
            with closing(sqlite3.connect(path)) as connection:
                _restrict(connection)
                rows = connection.execute("SELECT blob FROM Packages ORDER BY hnum LIMIT ?", (MAX_PACKAGES,))
                yield from (row[0] for row in rows if isinstance(row[0], bytes))
        except sqlite3.Error:
            return


def _restrict(connection: sqlite3.Connection) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return int(steps > _MAX_STEPS)

    connection.set_progress_handler(count, 1000)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * _MAX_HEADER)
