"""Takes a backup while builds run.

    the lock of removals          nothing that a record names is removed until the end
    databases                     first: the files that follow hold everything that they name
    mutable files                 copied, then hashed: the copy is what is kept
    immutable files               by their names; those of an earlier backup are not read
    commit, then the record       a backup is whole or absent

An unchanged mutable file (size and time of change) is taken from the backup before.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import imagesmith
from imagesmith.artifacts.intact import digest_of_path
from imagesmith.artifacts.removals import keeping_all
from imagesmith.artifacts.shared import BLOBS, NotShared, SharedStore
from imagesmith.backups import databases
from imagesmith.backups.checked_copies import DamagedContent
from imagesmith.backups.listing import last_entries
from imagesmith.backups.manifest import BackupEntry, BackupEntryKind, BackupError, BackupRecord, encode_entries
from imagesmith.backups.progress import BackupProgress, BackupSource, TakenEntry
from imagesmith.backups.repository import BackupRepository
from imagesmith.backups.sources import SourceFile, list_files
from imagesmith.draft_folders import fresh_draft_folder

_AHEAD: Final = 64
"""Files that wait for a thread; their list stays short however many there are."""
_CHUNK: Final = 1024 * 1024

Item = TypeVar("Item")


def take_backup(
    source: BackupSource,
    repository: BackupRepository,
    pool: Executor,
    *,
    now: datetime,
    progress: BackupProgress,
) -> BackupRecord:
    """Take a backup; returns its record. `pool` copies files beside each other.

    A file whose bytes do not match its name is left out and named in `damaged` of the record. Raises BackupError,
    SharedStoreError, OSError.
    """
    work = source.data_dir / "backup-drafts"
    with fresh_draft_folder(work, lock=work / "lock") as drafts, keeping_all(source.data_dir):
        taking = _Taking(source=source, repository=repository, pool=pool, drafts=drafts, progress=progress)
        listed = drafts / "entries"
        with listed.open("wb") as file:
            file.writelines(encode_entries(taking.entries()))
        digest = taking.keep_list(listed)
        repository.commit()
        record = BackupRecord(
            id=f"{now:%Y%m%dT%H%M%SZ}-{digest[7:15]}", created=f"{now:%Y-%m-%dT%H:%M:%SZ}",
            version=imagesmith.__version__, database="postgresql" if source.database_url else "sqlite",
            files=progress.files, size=progress.size, entries=digest,
            source=source.name, damaged=tuple(sorted(progress.damaged)),
        )  # fmt: skip
        repository.put(record.document, record.to_json())
        return record


class _Taking:
    """One run of take_backup()."""

    def __init__(
        self,
        source: BackupSource,
        repository: BackupRepository,
        pool: Executor,
        drafts: Path,
        progress: BackupProgress,
    ) -> None:
        self._source = source
        self._repository = repository
        self._pool = pool
        self._drafts = drafts
        self._progress = progress
        self._kept = repository.digests()
        self._lock = threading.Lock()
        self._before = last_entries(repository, source.name)

    def entries(self) -> Iterator[BackupEntry]:
        """Copy everything; the entries of the backup in the order of their copies."""
        yield from self._counted(self._databases())
        found = list_files(self._source.data_dir, secrets=self._source.secrets, warn=self._progress.warnings.append)
        yield from self._files([file for file in found if not file.digest])
        # listed after the index of the layout was copied, which therefore names no blob that is not here
        again = list_files(self._source.data_dir, secrets=self._source.secrets)
        yield from self._files([file for file in again if file.digest])
        if self._source.shared is not None:
            yield from self._shared(self._source.shared)

    def _shared(self, store: SharedStore) -> Iterator[BackupEntry]:
        """Documents are copied first, and blobs listed afterwards: no document names a blob that is not here. In
        the list of entries blobs come first, for the same reason when they are restored."""
        copy = partial(self._shared_object, store)
        names = (name for name in store.names() if not name.startswith(BLOBS))
        documents = list(self._counted(self._beside(copy, names)))
        yield from self._counted(self._beside(copy, store.names(BLOBS)))
        yield from documents

    def keep_list(self, listed: Path) -> str:
        """Keep the list of entries; returns its digest."""
        digest = digest_of_path(listed)
        self._keep(listed, digest)
        return digest

    def _counted(self, done: Iterable[TakenEntry | None]) -> Iterator[BackupEntry]:
        for each in done:
            if each is not None:
                self._progress.add(each)
                yield each.entry

    def _beside(
        self, action: Callable[[Item], TakenEntry | None], items: Iterable[Item]
    ) -> Iterator[TakenEntry | None]:
        """The results of an action in their order, several at a time."""
        waiting: deque[Future[TakenEntry | None]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(action, item))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    # Databases

    def _databases(self) -> Iterator[TakenEntry]:
        if self._source.database_url:
            dump = self._drafts / "postgresql.dump"
            databases.dump_postgresql(self._source.database_url, dump)
            yield self._mutable_copy(dump, BackupEntryKind.POSTGRESQL, dump.name)
            return
        for name in databases.SQLITE_FILES:
            file, copy = self._source.data_dir / name, self._drafts / name
            if not file.exists():
                raise BackupError(f"{file} does not exist: name the data directory of a server with --data-dir")
            databases.copy_sqlite(file, copy)
            yield self._mutable_copy(copy, BackupEntryKind.FILE, name)

    def _mutable_copy(self, copy: Path, kind: BackupEntryKind, path: str) -> TakenEntry:
        digest = digest_of_path(copy)
        copied = self._keep(copy, digest)
        entry = BackupEntry(kind=kind, path=path, digest=digest, size=copy.stat().st_size)
        copy.unlink()
        return TakenEntry(entry, copied)

    # Files

    def _files(self, files: Sequence[SourceFile]) -> Iterator[BackupEntry]:
        """The entries of files; further names of a file are not read again."""
        first: dict[tuple[int, int], str] = {}
        others: list[SourceFile] = []
        single: list[SourceFile] = []
        for file in files:
            known = first.setdefault(file.inode, file.path)
            (single if known == file.path else others).append(file)
        entries = {}
        for entry in self._counted(self._beside(self._file, single)):
            entries[entry.path] = entry
            yield entry
        for file in others:
            same = entries.get(first[file.inode])
            if same is not None:
                entry = replace(same, path=file.path, same_as=same.path)
                yield from self._counted([TakenEntry(entry, copied=False)])

    def _file(self, file: SourceFile) -> TakenEntry | None:
        try:
            return self._immutable(file) if file.digest else self._mutable(file)
        except FileNotFoundError:
            return None  # removed since it was listed

    def _immutable(self, file: SourceFile) -> TakenEntry | None:
        try:
            copied = self._keep(file.location, file.digest)
        except DamagedContent:
            self._progress.damaged.append(file.path)
            return None
        return TakenEntry(_entry(file, file.digest), copied)

    def _mutable(self, file: SourceFile) -> TakenEntry:
        before = self._before.get(file.path)
        if before is not None and (before.size, before.mtime_ns) == (file.size, file.mtime_ns):
            return TakenEntry(_entry(file, before.digest), copied=False)
        descriptor, name = tempfile.mkstemp(dir=self._drafts)
        copy = Path(name)
        try:
            # of its current length: a log grows while it is read
            with os.fdopen(descriptor, "wb") as target, file.location.open("rb") as opened:
                left = os.fstat(opened.fileno()).st_size
                while left and (data := opened.read(min(left, _CHUNK))):
                    target.write(data)
                    left -= len(data)
            digest = digest_of_path(copy)
            copied = self._keep(copy, digest)
            return TakenEntry(replace(_entry(file, digest), size=copy.stat().st_size), copied)
        finally:
            copy.unlink(missing_ok=True)

    def _shared_object(self, shared: SharedStore, name: str) -> TakenEntry | None:
        digest = f"sha256:{name.removeprefix(BLOBS)}" if name.startswith(BLOBS) else ""
        if digest in self._kept:
            before = self._before.get(name)
            size = before.size if before is not None and before.digest == digest else 0
            return TakenEntry(
                BackupEntry(kind=BackupEntryKind.SHARED, path=name, digest=digest, size=size), copied=False
            )
        with tempfile.TemporaryDirectory(dir=self._drafts) as folder:
            copy = Path(folder) / "object"
            try:
                shared.fetch(name, copy)
            except NotShared:
                return None  # removed since it was listed
            digest = digest or digest_of_path(copy)
            try:
                copied = self._keep(copy, digest)
            except DamagedContent:
                self._progress.damaged.append(f"{shared.url}/{name}")
                return None
            size = copy.stat().st_size
        return TakenEntry(BackupEntry(kind=BackupEntryKind.SHARED, path=name, digest=digest, size=size), copied)

    def _keep(self, path: Path, digest: str) -> bool:
        """Put content into the repository; False: it is there already. Raises DamagedContent, BackupError."""
        with self._lock:
            if digest in self._kept:
                return False
            self._kept.add(digest)  # claimed: two files with one content are staged once
        try:
            self._repository.stage(digest, path)
        except BaseException:
            with self._lock:
                self._kept.discard(digest)
            raise
        return True


def _entry(file: SourceFile, digest: str) -> BackupEntry:
    return BackupEntry(
        kind=BackupEntryKind.FILE,
        path=file.path,
        digest=digest,
        size=file.size,
        mode=file.mode,
        mtime_ns=file.mtime_ns,
    )
