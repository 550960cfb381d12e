"""Reads a backup to its end, and compares all content with its digests, without restoring it."""

from __future__ import annotations

from imagesmith.backups.listing import entries_of
from imagesmith.backups.manifest import BackupError, BackupRecord
from imagesmith.backups.repository import BackupRepository


def check_backup(repository: BackupRepository, record: BackupRecord) -> list[str]:
    """What is missing or damaged, each with the first file that needs it. Raises BackupError for its list."""
    faults: list[str] = []
    seen: set[str] = set()
    with entries_of(repository, record) as entries:
        for entry in entries:
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            try:
                repository.check(entry.digest)
            except BackupError as error:
                faults.append(f"{entry.path}: {error}")
    return faults
