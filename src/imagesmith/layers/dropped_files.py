"""What no reproducible layer carries: caches, logs and ids that name the moment or the machine of a build.

Each is made again by the program that reads it, or is read by nobody. Only files are left out, never folders or
links; an empty file tells nothing of a moment, and stays. Where a layer below has a file of this name, that one is
seen again.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith.layers.entries import shown

MOST_TOLD: Final = 1000
"""Files of one layer that are named; a cache of downloads may have any number."""
_BYTECODE_HEADER: Final = 16
"""Bytes of the header of compiled Python."""


@dataclass(frozen=True)
class DroppedFiles:
    """`pattern`: a path without its first slash; `*` stands for a part of a name, `**/` for any folders."""

    pattern: str
    why: str


DROPPED: Final = (
    DroppedFiles("etc/machine-id", "the id of one machine; systemd makes it at the first boot"),
    DroppedFiles("var/lib/dbus/machine-id", "the id of one machine; D-Bus makes it again"),
    DroppedFiles("var/lib/systemd/random-seed", "the seed of one machine"),
    DroppedFiles("var/lib/systemd/credential.secret", "the key of one machine; systemd makes it when it is needed"),
    DroppedFiles("var/cache/ldconfig/aux-cache", "inode numbers and times of libraries; ldconfig makes it again"),
    DroppedFiles("var/cache/apt/pkgcache.bin", "places in memory; apt makes it again"),
    DroppedFiles("var/cache/apt/srcpkgcache.bin", "places in memory; apt makes it again"),
    DroppedFiles("var/cache/fontconfig/*", "times of folders; fc-cache makes it again"),
    DroppedFiles("var/cache/man/**/*", "times of pages; mandb makes it again"),
    DroppedFiles("var/cache/dnf/**/*", "times of downloads; dnf makes it again"),
    DroppedFiles("var/cache/yum/**/*", "times of downloads; yum makes it again"),
    DroppedFiles("var/lib/dnf/history.sqlite*", "times of transactions"),
    DroppedFiles("var/log/**/*.log", "a log: times, process ids, the terminal"),
    DroppedFiles("var/log/**/*.log.xz", "a log that is compressed"),
    DroppedFiles("var/log/journal/**/*", "a log of systemd"),
    DroppedFiles("var/log/lastlog", "times of logins"),
    DroppedFiles("var/log/faillog", "times of logins"),
    DroppedFiles("var/log/tallylog", "times of logins"),
    DroppedFiles("var/log/[bw]tmp", "times of logins"),
    DroppedFiles("root/.cache/pip/**/*", "times of downloads; pip makes it again"),
    DroppedFiles("root/.npm/_cacache/**/*", "times of downloads; npm makes it again"),
    DroppedFiles("root/.npm/_logs/**/*", "a log of npm"),
)
STALE_BYTECODE: Final = DroppedFiles(
    "**/__pycache__/*.pyc", "only if it names a time of its source that the layer does not have: Python refuses it"
)


def table() -> Iterable[DroppedFiles]:
    """All that is left out, for people."""
    return (*DROPPED, STALE_BYTECODE)


def drops(path: bytes, status: os.stat_result, name: bytes, parent: int, latest: int | None) -> bool:
    """Whether a layer whose times end with `latest` leaves out a file, `name` of the open folder `parent`. Raises
    OSError."""
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return False
    if is_dropped(path):
        return True
    if latest is None or not _is_bytecode(path):
        return False
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        return is_stale_bytecode(os.read(file, _BYTECODE_HEADER), latest)
    finally:
        os.close(file)


def _is_bytecode(path: bytes) -> bool:
    """Whether a path is that of STALE_BYTECODE; Python compares no other .pyc file with its source."""
    folder, _, name = path.rpartition(b"/")
    return name.endswith(b".pyc") and folder.rpartition(b"/")[2] == b"__pycache__"


def remove_dropped(folder: Path, latest: int | None) -> Iterator[str]:
    """Remove such files from a whole root, in which nothing runs; yields their paths, in words. Links are not
    followed. Raises OSError."""
    for inner, _, names, parent in os.fwalk(os.fsencode(folder), follow_symlinks=False):
        inside = os.path.relpath(inner, os.fsencode(folder))
        for name in sorted(names):
            path = name if inside == b"." else inside + b"/" + name
            if drops(path, os.lstat(name, dir_fd=parent), name, parent, latest):
                os.unlink(name, dir_fd=parent)
                yield shown(path)


def is_dropped(path: bytes) -> bool:
    """Whether a file of this path, without a first slash, is left out whatever it contains."""
    return _PATHS.fullmatch(path) is not None


def is_stale_bytecode(header: bytes, latest: int) -> bool:
    """Whether compiled Python names a later time of its source than any file of the layer has (PEP 552).

    One that was checked by a hash of its source, as under SOURCE_DATE_EPOCH, names none.
    """
    if len(header) < _BYTECODE_HEADER or header[2:4] != b"\r\n":
        return False
    flags, time = struct.unpack_from("<II", header, 4)
    return not flags & 1 and time > latest


def _expression(pattern: str) -> str:
    pieces = re.split(r"(\*\*/|\*|\[[a-z]+\])", pattern)
    words = {"**/": "(?:[^/]+/)*", "*": "[^/]*"}
    return "".join(words.get(piece, piece if piece.startswith("[") else re.escape(piece)) for piece in pieces)


_PATHS: Final = re.compile("|".join(_expression(item.pattern) for item in DROPPED).encode(), re.DOTALL)
