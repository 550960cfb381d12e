"""Restores a backup into an empty data directory, also under another path or on another machine.

restoring.json    written first, removed last: no server starts meanwhile, and the same command goes on
files             each checked against its digest; those that are there already are kept
shared objects    those that the store lacks
PostgreSQL        in one transaction, into an empty database
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith.artifacts.intact import digest_of_path
from imagesmith.artifacts.shared import BLOBS, SharedStore
from imagesmith.backups import databases
from imagesmith.backups.listing import entries_of
from imagesmith.backups.manifest import RESTORING, BackupEntry, BackupEntryKind, BackupError, BackupRecord
from imagesmith.backups.repository import BackupRepository
from imagesmith.files import flush, share_file, write_atomically

_DRAFT: Final = "restoring.draft"


@dataclass(frozen=True)
class RestoreTarget:
    """Where a backup goes."""

    data_dir: Path
    database_url: str = ""
    """Of an empty PostgreSQL database; needed for a backup of PostgreSQL alone."""
    shared: SharedStore | None = None
    without_shared: bool = False
    """The shared store is intact: its objects are not restored."""


def restore_backup(
    repository: BackupRepository,
    record: BackupRecord,
    target: RestoreTarget,
    *,
    report: Callable[[BackupEntry], None] = lambda _: None,
) -> None:
    """Restore everything, or raise and leave a folder that no server starts on and that the same call completes.

    Raises BackupError, SharedStoreError, OSError.
    """
    _require_target(record, target)
    with _marked(target.data_dir, record), entries_of(repository, record) as entries:
        names: set[str] | None = None
        begun = _begun(target.data_dir)
        for entry in entries:
            if entry.kind is BackupEntryKind.FILE:
                _restore_file(repository, entry, target.data_dir)
            elif entry.kind is BackupEntryKind.POSTGRESQL:
                if begun.get("database"):
                    continue
                with _draft(target.data_dir) as dump:
                    repository.fetch(entry.digest, dump)
                    databases.restore_postgresql(target.database_url, dump)
                # the same command completes the rest
                write_atomically(target.data_dir / RESTORING, json.dumps({"backup": record.id, "database": True}))
            elif target.without_shared:
                continue
            elif target.shared is None:
                raise BackupError(
                    "the backup holds objects of a shared store: name the store with --artifacts, "
                    "or say --no-artifacts if it is intact"
                )
            else:
                names = set(target.shared.names()) if names is None else names
                _restore_object(repository, entry, target.shared, names, target.data_dir)
            report(entry)
        os.sync()  # once: a flush for each file costs more than its copy


def _require_target(record: BackupRecord, target: RestoreTarget) -> None:
    folder = target.data_dir
    if folder.exists() and not folder.is_dir():
        raise BackupError(f"{folder} is not a directory")
    begun = _begun(folder)
    if begun and begun.get("backup") != record.id:
        raise BackupError(
            f"{folder} is half restored from the backup {begun.get('backup')}: complete that, or empty the folder"
        )
    if not begun and folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty: restore into a new folder, then move it")
    if record.database == "postgresql":
        if not target.database_url:
            raise BackupError(
                "it is a backup of PostgreSQL: create an empty database, and name it with --database-url"
            )
        if not begun.get("database"):
            databases.require_empty_postgresql(target.database_url)


def _begun(folder: Path) -> dict[str, object]:
    """What an interrupted restore wrote of itself; empty: there was none. Raises BackupError."""
    marker = folder / RESTORING
    if not marker.exists():
        return {}
    try:
        return dict(json.loads(marker.read_bytes()))
    except (ValueError, TypeError) as error:
        raise BackupError(f"{marker} is damaged: empty the folder, and restore again") from error


@contextmanager
def _marked(folder: Path, record: BackupRecord) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    marker = folder / RESTORING
    if not marker.exists():
        write_atomically(marker, json.dumps({"backup": record.id}))
    yield
    marker.unlink()
    flush(folder)


def _restore_file(repository: BackupRepository, entry: BackupEntry, folder: Path) -> None:
    target = folder / entry.path
    if target.exists() and target.stat().st_size == entry.size and digest_of_path(target) == entry.digest:
        return
    _make_folders(folder, target.parent)
    target.unlink(missing_ok=True)
    if entry.same_as:
        share_file(folder / entry.same_as, target)
        return
    with _draft(folder) as draft:
        repository.fetch(entry.digest, draft)
        draft.chmod(entry.mode)
        os.utime(draft, ns=(entry.mtime_ns, entry.mtime_ns))
        draft.rename(target)


def _make_folders(folder: Path, target: Path) -> None:
    """The folders of a file, private and real: a symbolic link would lead outside. Raises BackupError."""
    for part in [*reversed(target.relative_to(folder).parents), target.relative_to(folder)]:
        inside = folder / part
        if inside.is_symlink():
            raise BackupError(f"{inside} is a symbolic link: restore into an empty folder")
        inside.mkdir(mode=0o700, exist_ok=True)


def _restore_object(
    repository: BackupRepository, entry: BackupEntry, shared: SharedStore, names: set[str], folder: Path
) -> None:
    is_blob = entry.path.startswith(BLOBS)
    if is_blob and entry.path in names:
        return  # checked against its name whenever it is fetched
    with _draft(folder) as draft:
        repository.fetch(entry.digest, draft)
        if is_blob:
            shared.put_blob(entry.digest, draft)
        else:
            shared.put_file(entry.path, draft)


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    draft = folder / _DRAFT
    draft.unlink(missing_ok=True)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)
