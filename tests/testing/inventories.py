"""Package databases, and files of a root, as tests write them."""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path


def compressed(text: bytes) -> bytes:
    """As the program zstd compresses it."""
    return subprocess.run(["zstd", "--stdout", "--quiet"], input=text, capture_output=True, check=True).stdout


def wall(*entries: object) -> bytes:
    return compressed("".join(json.dumps(item, separators=(",", ":")) + "\n" for item in entries).encode())


APK = """\
C:Q1abc=
P:musl
V:1.2.5-r0
A:x86_64
o:musl
F:lib
R:libc.so

P:libcrypto3
V:3.3.1-r0
A:x86_64
o:openssl

V:broken

"""


def rpm_header(texts: Mapping[int, str], *, epoch: int | None = None) -> bytes:
    """A header as rpm stores it: index entries, then their data."""
    entries, store = [], b""
    for tag, text in texts.items():
        entries.append(struct.pack(">IIII", tag, 6, len(store), 1))
        store += text.encode() + b"\0"
    if epoch is not None:
        store += b"\0" * (-len(store) % 4)
        entries.append(struct.pack(">IIII", 1003, 4, len(store), 1))
        store += struct.pack(">I", epoch)
    return struct.pack(">II", len(entries), len(store)) + b"".join(entries) + store


OPENSSL = rpm_header(
    {1000: "openssl-libs", 1001: "3.0.7", 1002: "27.el9", 1022: "x86_64", 1044: "openssl-3.0.7-27.el9.src.rpm"},
    epoch=1,
)


BASH = rpm_header({1000: "bash", 1001: "5.1.8", 1002: "9.el9", 1022: "x86_64", 1044: "bash-5.1.8-9.el9.src.rpm"})


KEY = rpm_header({1000: "gpg-pubkey", 1001: "350d275d", 1002: "6279464b"})


def rpm_database(path: Path, blobs: list[bytes], *, journal: bool = False) -> None:
    """A database as rpm makes it; with `journal` its rows stand only in the write-ahead log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    if journal:
        kept = {item: item.read_bytes() for item in (path, path.with_name("rpmdb.sqlite-wal"))}
        connection.close()
        for item, data in kept.items():
            item.write_bytes(data)
    else:
        connection.close()


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
