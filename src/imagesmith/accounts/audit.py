"""The audit log: one line of JSON for each call that changes something, durable before its answer.

    DATA/audit/2026-11-29.jsonl     mode 0600, a file for each day (UTC); the server and commands append whole lines

    reserve --> room for the lines on the disk, or AuditUnavailable: the call is refused before it does anything
    append  --> lock, one write, unlock
    sync    --> flushed to the disk, together with the lines of other threads

Room is reserved first because a line can only be written once its result is known, and a change that cannot be
recorded must not happen. A line is cut off again when it was not written whole. Lines of changes in the database
are in its transactions first: see audit_outbox.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Final

from imagesmith.files import flush
from imagesmith.values.json_text import json_text
from imagesmith.values.names import iso_instant

FOLDER: Final = "audit"
SUFFIX: Final = ".jsonl"
_RESERVED_BYTES: Final = 2 * 1024 * 1024
"""More than the lines of all requests that run at one time."""
_REFILL_BYTES: Final = 1024 * 1024
_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE: the room lies behind the end of the file."""
_LONGEST_TEXT: Final = 512


class AuditUnavailable(RuntimeError):
    """The audit log cannot be written: names the folder and the cause."""


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """One call: who, what, when, from where, with which result. It contains no secret and no document."""

    time: datetime
    principal: str
    source: str
    """The address of the client, or `command` for a command on the server's machine."""
    operation: str
    resource: str = ""
    result: str = "OK"
    """`OK`, or the code of the error; not its text, which may quote what was sent."""
    account: str = ""
    region: str = ""
    access_key_id: str = ""
    request_id: str = ""
    agent: str = ""
    """What the client calls itself."""

    def text(self) -> str:
        """The line, without its end."""
        values = {"time": iso_instant(self.time)}
        for name, member in _TEXTS:
            values[member] = getattr(self, name)[:_LONGEST_TEXT]
        text = json_text(values)
        # in ASCII, so that no reader takes a character of a client for the end of a line
        return text if text.isascii() else json.dumps(values, separators=(",", ":"))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


_TEXTS: Final = tuple((field.name, _camel(field.name)) for field in fields(AuditRecord) if field.name != "time")
"""(field, member of a line): worked out once, as each change of a server writes a line."""


class AuditLog:
    """The log of a data directory. Safe to use from several threads; several processes may have it open."""

    def __init__(self, data_dir: Path, clock: Callable[[], datetime], *, keeps_room: bool = True) -> None:
        """`keeps_room`: the reserved room of a file is released at its end, which only the server may do."""
        self._keeps_room = keeps_room
        self._folder = data_dir / FOLDER
        self._clock = clock
        self._opened = threading.Lock()
        self._syncing = threading.Lock()
        self._file: int | None = None
        self._day = date.min
        self._room = 0
        """Where the reserved room of the file ends."""
        self._written = 0
        self._durable = 0
        """Lines of this process that were appended, and how many of them are on the disk."""

    def reserve(self) -> None:
        """Make sure that the next lines have room. Raises AuditUnavailable."""
        with self._opened:
            try:
                file = self._current()
                end = os.fstat(file).st_size
                if self._room - end < _REFILL_BYTES:
                    _allocate(file, end, _RESERVED_BYTES)
                    self._room = end + _RESERVED_BYTES
            except OSError as error:
                raise self._unavailable(error) from error

    def append(self, lines: Sequence[bytes]) -> int:
        """Write whole lines; they are durable after sync() of the returned number. Raises AuditUnavailable."""
        data = b"".join(lines)
        with self._opened:
            try:
                _write_whole(self._current(), data)
            except OSError as error:
                raise self._unavailable(error) from error
            self._written += len(lines)
            return self._written

    def sync(self, number: int) -> None:
        """Wait until the lines up to a number are on the disk. Raises AuditUnavailable."""
        with self._syncing:
            if self._durable >= number:
                return  # another thread flushed them with its own
            with self._opened:
                written, file = self._written, self._file
                copy = None if file is None else os.dup(file)
            try:
                if copy is not None:
                    os.fdatasync(copy)
                self._durable = written
            except OSError as error:
                raise self._unavailable(error) from error
            finally:
                if copy is not None:
                    os.close(copy)

    def record(self, *records: AuditRecord) -> None:
        """Append lines and wait until they are durable. Raises AuditUnavailable."""
        self.sync(self.append([record.text().encode() + b"\n" for record in records]))

    def flush(self) -> None:
        """Wait until all lines that this process appended are on the disk. Raises AuditUnavailable."""
        with self._opened:
            written = self._written
        self.sync(written)

    def close(self) -> None:
        with self._opened:
            self._close_file()

    def _current(self) -> int:
        """The file of the day."""
        day = self._clock().date()
        if self._file is None or day != self._day:
            if self._file is not None:
                os.fdatasync(self._file)  # sync() will see the new file alone
            self._close_file()
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{day.isoformat()}{SUFFIX}"
            is_new = not path.exists()
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if is_new:
                flush(self._folder)
            self._day, self._room = day, 0
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            if self._keeps_room:
                with suppress(OSError):
                    os.ftruncate(self._file, os.fstat(self._file).st_size)
            os.close(self._file)
            self._file = None

    def _unavailable(self, error: OSError) -> AuditUnavailable:
        return AuditUnavailable(f"the audit log in {self._folder} cannot be written: {error.strerror or error}")


def _write_whole(file: int, data: bytes) -> None:
    """Append all of it or nothing, also beside other processes."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        before = os.fstat(file).st_size
        if before and os.pread(file, 1, before - 1) != b"\n":
            # a kill or a power cut cut the last line: this one must not continue it
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(file, data[written:])
        except OSError:
            os.ftruncate(file, before)
            raise
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _allocate(file: int, offset: int, length: int) -> None:
    """Reserve blocks behind the end of a file, which keeps its size. Raises OSError when there is no room."""
    # os.posix_fallocate would change the size, and lines are appended at the end
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(file, _KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length))
    number = ctypes.get_errno() if done else 0
    if number in (0, 95, 38):  # file systems without it (EOPNOTSUPP, ENOSYS) report a full disk at the write
        return
    raise OSError(number, os.strerror(number))
