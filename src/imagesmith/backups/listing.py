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
    sources = {record.source: record.id for record in known}
    if not wanted and len(sources) > 1:
        newest = "; ".join(f"{id} of {source}" for source, id in sorted(sources.items()))
        raise BackupError(f"{repository.url} holds backups of several servers: choose one with --backup: {newest}")
    return found[-1]


@contextmanager
def entries_of(repository: BackupRepository, record: BackupRecord) -> Iterator[Iterator[BackupEntry]]:
    """The entries of a backup, read one by one. Raises BackupError."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "entries"
        repository.fetch(record.entries, listed)
        with listed.open("rb") as file:
            yield parse_entries(file, f"{repository.url}/{record.document}")


def last_entries(repository: BackupRepository, source: str) -> dict[str, BackupEntry]:
    """The mutable files of a server's newest backup, and the objects of its shared store, by path; none when it
    cannot be read: they are copied again then."""
    known = repository.digests()
    try:
        record = next((each for each in reversed(list_backups(repository)) if each.source == source), None)
        if record is None:
            return {}
        with entries_of(repository, record) as entries:
            return {
                entry.path: entry
                for entry in entries
                if entry.digest in known and (entry.mtime_ns or entry.kind is BackupEntryKind.SHARED)
            }
    except BackupError:
        return {}


def remove_old(repository: BackupRepository, keep: int, source: str) -> list[str]:
    """Remove all but the newest backups of one server, and the content that no backup has; returns the ids.

    The caller is the one that writes. Raises BackupError.
    """
    known = list_backups(repository)
    old = [record for record in known if record.source == source][:-keep]
    kept = [record for record in known if record not in old]
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
