"""Reads what a repository holds: its backups, their entries; removes old backups and what only they need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesmith.backups.manifest import (
    BackupEntry,
    BackupEntryKind,
    BackupError,
    BackupRecord,
    parse_entries,
    parse_record,
)
from imagesmith.backups.repository import BackupRepository


def list_backups(repository: BackupRepository) -> list[BackupRecord]:
    """All backups, oldest first. Raises BackupError."""
    return [
        parse_record(repository.get(name), f"{repository.url}/{name}")
        for name in repository.names("backups/")
        if name.endswith(".json")
    ]


def find_backup(repository: BackupRepository, wanted: str = "") -> BackupRecord:
    """A backup by its id or the start of it; empty: the newest. Raises BackupError."""
    known = list_backups(repository)
    if not known:
        raise BackupError(f"{repository.url} holds no backups")
    found = [record for record in known if record.id.startswith(wanted)]
    if not found or (wanted and len(found) > 1):
        which = "several backups start with" if found else "no backup has the id"
        raise BackupError(f"{which} {wanted!r}; known: {', '.join(record.id for record in known[-10:])}")
    return found[-1]


@contextmanager
def entries_of(repository: BackupRepository, record: BackupRecord) -> Iterator[Iterator[BackupEntry]]:
    """The entries of a backup, read one by one. Raises BackupError."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "entries"
        repository.fetch(record.entries, listed)
        with listed.open("rb") as file:
            yield parse_entries(file, f"{repository.url}/{record.document}")


def last_entries(repository: BackupRepository) -> dict[str, BackupEntry]:
    """The mutable files of the newest backup, by path; none when it cannot be read: they are copied again then."""
    known = repository.digests()
    try:
        record = find_backup(repository)
        with entries_of(repository, record) as entries:
            return {
                entry.path: entry
                for entry in entries
                if entry.kind is BackupEntryKind.FILE and entry.mtime_ns and entry.digest in known
            }
    except BackupError:
        return {}


def remove_old(repository: BackupRepository, keep: int) -> list[str]:
    """Remove all but the newest backups, and the content that no other has; returns the ids. Raises BackupError."""
    known = list_backups(repository)
    old, kept = known[:-keep], known[-keep:]
    if not old:
        return []
    needed = set()
    for record in kept:
        needed.add(record.entries)
        with entries_of(repository, record) as entries:
            needed |= {entry.digest for entry in entries}
    for record in old:
        repository.remove(record.document)  # first: a backup that is listed is whole
    for digest in repository.digests() - needed:
        repository.remove(f"blobs/{digest.replace(':', '/')}")
    return [record.id for record in old]
