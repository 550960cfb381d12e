"""What a backup holds: a small document with its id and totals, and a list of files, kept as a blob.

backups/<id>.json      BackupRecord: written last, so a backup is whole or absent
blobs/sha256/<hex>     the list of files, and the content of each file, once however many backups have it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

FORMAT: Final = 1
RESTORING: Final = "restoring.json"
"""The file in a data directory that a restore has not completed."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_MOST_FILES: Final = 20_000_000
_LONGEST_PATH: Final = 4096


class BackupError(RuntimeError):
    """A backup cannot be written, read or restored; the text says which part, why, and what to try."""


class BackupEntryKind(StrEnum):
    """Where the content of an entry belongs."""

    FILE = "file"
    """A file of the data directory."""
    SHARED = "shared"
    """An object of the store that several hosts share, by its name there."""
    POSTGRESQL = "postgresql"
    """A dump of both schemas of the PostgreSQL database."""


@dataclass(frozen=True)
class BackupEntry:
    """One file of a backup."""

    kind: BackupEntryKind
    path: str
    """Relative to the data directory, or the name in the shared store."""
    digest: str
    size: int
    mode: int = 0o600
    mtime_ns: int = 0
    same_as: str = ""
    """The path of an earlier entry that is the same file under another name."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True)
class BackupRecord:
    """One backup."""

    id: str
    created: str
    """An instant in ISO 8601, UTC."""
    version: str
    """The version of imagesmith that took it."""
    database: str
    """`sqlite` or `postgresql`."""
    files: int
    size: int
    """Bytes of all files; content that several files share counts once for each."""
    entries: str
    """The digest of the blob with the list of files."""
    source: str = ""
    """Host and data directory: several may back up to one target."""
    damaged: tuple[str, ...] = ()
    """Paths whose bytes did not match their digest when the backup was taken; they are not in it."""
    format: int = FORMAT

    @property
    def document(self) -> str:
        return f"backups/{self.id}.json"

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def parse_record(data: bytes, where: str) -> BackupRecord:
    """The record of a document. Raises BackupError, which names `where` it is from."""
    try:
        members: dict[str, Any] = json.loads(data)
        if members.get("format") != FORMAT:
            raise BackupError(
                f"{where} has the format {members.get('format')}; this version reads {FORMAT}: "
                "restore it with the version that took it"
            )
        record = BackupRecord(**{**members, "damaged": tuple(members["damaged"])})
    except BackupError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BackupError(f"{where} is not a record of a backup: {error}") from error
    if not (_ID.fullmatch(str(record.id)) and _DIGEST.fullmatch(str(record.entries))):
        raise BackupError(f"{where} is not a record of a backup: its id or its list is malformed")
    return record


def encode_entries(entries: Iterable[BackupEntry]) -> Iterator[bytes]:
    """One line of JSON for each entry."""
    for entry in entries:
        yield f"{entry.to_json()}\n".encode()


def parse_entries(lines: Iterable[bytes], where: str) -> Iterator[BackupEntry]:
    """The entries of a list, each checked: no path leaves its folder. Raises BackupError."""
    for number, line in enumerate(lines, 1):
        if number > _MOST_FILES:
            raise BackupError(f"{where} lists more than {_MOST_FILES} files")
        try:
            members = json.loads(line)
            entry = BackupEntry(**{**members, "kind": BackupEntryKind(members["kind"])})
            _check(entry)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BackupError(f"line {number} of the list of {where} is malformed: {error}") from error
        yield entry


def _check(entry: BackupEntry) -> None:
    if not _DIGEST.fullmatch(entry.digest):
        raise ValueError(f"{entry.digest!r} is not a digest")
    if not all(isinstance(value, int) and value >= 0 for value in (entry.size, entry.mode, entry.mtime_ns)):
        raise ValueError("size, mode and mtime_ns are integers from 0")
    for path in (entry.path, *([entry.same_as] if entry.same_as else [])):
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path or len(path) > _LONGEST_PATH:
            raise ValueError(f"{path!r:.100} is not a path inside the data directory")
