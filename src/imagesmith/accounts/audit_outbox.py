"""Lines of changes reach the audit log although the server may die at any moment.

    a change and its line: one transaction --> committed --> the line is appended to the day's file --> answer
                                     later, for many: the file is flushed --> later changes remove the rows
    start: rows that are left --in no file--> appended, flushed --> removed

So no change is without its line, and no line is without its change. What has no transaction, such as a refusal, is
written straight to the file. Each log has an id of its own, because servers may share a database.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from imagesmith.accounts.audit import FOLDER, SUFFIX, AuditLog, AuditRecord, AuditUnavailable
from imagesmith.files import write_atomically
from imagesmith.periodic import Periodic
from imagesmith.store.audit_lines import SCOPE, AuditLine, forget_lines, lines_of
from imagesmith.store.database import Database, StoreUnavailable

_log = logging.getLogger(__name__)

_ID_FILE: Final = "id"
_DRAIN_SECONDS: Final = 1.0
_REPLACED: Final = 4
"""Rows that a change removes with its own: more than one, so that they become fewer."""
_MOST_FORGOTTEN: Final = 500
"""Rows that are removed in one transaction: others wait for it."""


class AuditOutbox:
    """The log of a server with the lines that stand in its database. Call close() after the last request."""

    def __init__(self, data_dir: Path, database: Database, clock: Callable[[], datetime]) -> None:
        """Writes what an earlier server left. Raises AuditUnavailable, StoreUnavailable, OSError."""
        self._log = AuditLog(data_dir, clock)
        self._folder = data_dir / FOLDER
        self._database = database
        self._lock = threading.Lock()
        self._appended: list[str] = []
        """Ids of lines that are in the file, perhaps not yet on the disk."""
        self._flushed: deque[str] = deque()
        """Ids of lines that are on the disk, and still in the database."""
        self._failed: list[AuditLine] = []
        """Lines that could not be appended."""
        self.id = _own_id(self._folder)
        self._recover()
        self._periodic = Periodic(
            "audit", self.drain, seconds=_DRAIN_SECONDS, failing="the audit log is behind",
            working="the audit log has all lines again",
            expected=lambda error: isinstance(error, AuditUnavailable | StoreUnavailable | OSError),
        )  # fmt: skip
        self._periodic.start()

    def close(self) -> None:
        self._periodic.stop()
        with suppress(AuditUnavailable, StoreUnavailable):  # what is left is for the next start
            self.drain()
            self._forget()
        self._log.close()

    def reserve(self) -> None:
        """Raises AuditUnavailable when a change could not be recorded."""
        self._log.reserve()

    def line(self, record: AuditRecord) -> AuditLine:
        """The line of a change, for its transaction, which also removes some rows that are not needed any more.

        Rows that such a transaction should have removed, and did not because it failed, leave at the next start.
        """
        with self._lock:
            gone = tuple(self._flushed.popleft() for _ in range(min(_REPLACED, len(self._flushed))))
        return AuditLine(id=record.request_id, log=self.id, time=record.time, line=record.text(), replaces=gone)

    def committed(self, lines: Sequence[AuditLine]) -> None:
        """Append lines whose transaction has ended; what cannot be written stays in the database until it can."""
        if not lines:
            return
        try:
            self._append(lines)
        except AuditUnavailable as error:
            _log.error("%d lines of the audit log wait in the database: %s", len(lines), error)
            with self._lock:
                self._failed += lines

    def record(self, *records: AuditRecord) -> None:
        """Write durably what has no transaction. Raises AuditUnavailable."""
        self._log.record(*records)

    def drain(self) -> None:
        """Flush what was appended; without new changes, remove rows. Raises AuditUnavailable, StoreUnavailable."""
        with self._lock:
            failed, self._failed = self._failed, []
        if failed:
            self._append_again(failed)
        with self._lock:
            appended = len(self._appended)
        if not appended:
            self._forget()
            return
        try:
            self._log.flush()
        except AuditUnavailable:
            with self._lock:
                # the kernel reports a failed write once, and calls the pages clean: the next flush would believe
                # that they are on the disk. Their rows stay for the next start, which compares with the file.
                del self._appended[:appended]
            raise
        with self._lock:
            self._flushed.extend(self._appended[:appended])
            del self._appended[:appended]

    def _append(self, lines: Sequence[AuditLine]) -> None:
        self._log.append([_bytes(line) for line in lines])
        with self._lock:
            self._appended += [line.id for line in lines]

    def _append_again(self, failed: Sequence[AuditLine]) -> None:
        try:
            self._append(failed)
        except BaseException:
            with self._lock:
                self._failed[:0] = failed
            raise

    def _forget(self) -> None:
        """Remove the rows that no change has removed. Under a load this transaction would hold up all changes."""
        while True:
            with self._lock:
                gone = [self._flushed.popleft() for _ in range(min(_MOST_FORGOTTEN, len(self._flushed)))]
            if not gone:
                return
            try:
                with self._database.write(SCOPE) as tx:
                    forget_lines(tx, gone)
            except BaseException:
                with self._lock:
                    self._flushed.extendleft(reversed(gone))
                raise

    def _recover(self) -> None:
        """Write the lines that an earlier server left in the database."""
        left = self._database.query(lambda tx: lines_of(tx, self.id))
        if not left:
            return
        known = _in_files(self._folder, left)
        missing = [line for line in left if line.id not in known]
        self._log.append([_bytes(line) for line in missing])
        self._log.flush()
        with self._database.write(SCOPE) as tx:
            forget_lines(tx, [line.id for line in left])
        if missing:
            _log.warning(
                "%d lines of the audit log were written now: the server ended before it could", len(missing)
            )


def _own_id(folder: Path) -> str:
    """The id of the log in this folder, made by its first server."""
    path = folder / _ID_FILE
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, uuid.uuid4().hex + "\n", replace=False)
    return path.read_text(encoding="ascii").strip()


def _in_files(folder: Path, lines: Sequence[AuditLine]) -> set[str]:
    """The ids of the lines that are in a file of the day of the oldest or a later one: a line is appended after its
    time, days later when the disk was full."""
    wanted = {_bytes(line): line.id for line in lines}
    oldest = f"{min(line.time for line in lines).date().isoformat()}{SUFFIX}"
    found: set[str] = set()
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name >= oldest:
            with path.open("rb") as content:
                found |= {wanted[line] for line in content if line in wanted}
    return found


def _bytes(line: AuditLine) -> bytes:
    return line.line.encode() + b"\n"
