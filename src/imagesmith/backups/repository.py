"""Where backups are kept: a folder, or a bucket of any S3 endpoint. Content is stored once, by digest.

    stage(digest, source)   copies a file; the copy is checked against its digest
    commit()                everything staged is on the medium and has its final name
    put(name, data)         a small document, at once

A kill before commit() leaves drafts, which the next backup removes. Nothing that is named is ever incomplete.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Protocol

from imagesmith.artifacts.intact import digest_of_path
from imagesmith.artifacts.shared import NotShared, SharedStoreError
from imagesmith.artifacts.shared_kinds import S3Store
from imagesmith.backups.checked_copies import DamagedContent, copy_checked
from imagesmith.backups.manifest import BackupError
from imagesmith.draft_folders import fresh_draft_folder
from imagesmith.files import move_many, write_atomically
from imagesmith.locks import LockHeld, exclusive_lock

_BLOBS: Final = "blobs/sha256/"
_LONGEST_WRITER: Final = 12 * 3600.0
_LARGEST_DOCUMENT: Final = 16 * 1024 * 1024


class BackupRepository(Protocol):
    """Every method raises BackupError. `stage` may be called by several threads."""

    @property
    def url(self) -> str: ...

    def digests(self) -> set[str]:
        """The digests of all stored content."""
        ...

    def stage(self, digest: str, source: Path) -> None: ...

    def commit(self) -> None: ...

    def fetch(self, digest: str, target: Path) -> None:
        """Write content to a new file, checked against its digest; an incomplete `target` is removed."""
        ...

    def check(self, digest: str) -> None:
        """Read content to its end, and compare it with its digest."""
        ...

    def put(self, name: str, data: bytes) -> None: ...

    def get(self, name: str) -> bytes: ...

    def names(self, prefix: str) -> list[str]:
        """The documents whose names start so, in their order."""
        ...

    def remove(self, name: str) -> None: ...


@contextmanager
def open_repository(
    url: str, make_client: Callable[[], Any], pool: Executor, *, new: bool = False
) -> Iterator[BackupRepository]:
    """The repository at `s3://bucket[/prefix]` or in a folder. `make_client` returns a boto3 client.

    `new`: for the one that writes; a folder that does not exist is made. Raises BackupError, also while another
    process writes.
    """
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise BackupError(f"{url!r} has no bucket: expected s3://bucket[/prefix]")
        repository = BucketRepository(make_client(), bucket, prefix.strip("/"))
        with repository.writing() if new else nullcontext():
            yield repository
        return
    if "://" in url:
        raise BackupError(f"{url!r} cannot hold backups: expected a folder or s3://bucket[/prefix]")
    folder = Path(url).absolute()
    try:
        with ExitStack() as stack:
            yield FolderRepository(folder, pool, stack if new else None)
    except OSError as error:
        raise BackupError(f"{error.filename or folder}: {error.strerror or error}") from error


class FolderRepository:
    """A folder of one file system."""

    def __init__(self, folder: Path, pool: Executor, stack: ExitStack | None) -> None:
        """`stack` keeps what a writer needs; None: nothing is written."""
        self._folder = folder
        self._blobs = folder / _BLOBS
        self._pool = pool
        self._drafts: Path | None = None
        if stack is None:
            if not self._blobs.is_dir():
                raise BackupError(f"{folder} holds no backups: it has no folder {_BLOBS.rstrip('/')}")
            return
        drafts = folder / "drafts"
        for path in (folder, folder / "backups", self._blobs):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # until the end: what another backup copied has no record yet, and would be removed as content of none
        try:
            stack.enter_context(exclusive_lock(folder / "writer.lock"))
        except LockHeld as error:
            raise BackupError(
                f"process {error.holder} writes another backup to {folder}: try again later"
            ) from error
        self._drafts = stack.enter_context(fresh_draft_folder(drafts, lock=folder / "drafts.lock"))

    @property
    def url(self) -> str:
        return str(self._folder)

    def digests(self) -> set[str]:
        return {f"sha256:{entry.name}" for entry in os.scandir(self._blobs)}

    def stage(self, digest: str, source: Path) -> None:
        copy_checked(source, self._draft(digest), digest, self._pool)

    def commit(self) -> None:
        assert self._drafts is not None
        staged = [path for path in self._drafts.iterdir() if len(path.name) == 64]
        if not staged:
            return
        move_many(staged, self._blobs)

    def fetch(self, digest: str, target: Path) -> None:
        copy_checked(self._blob(digest), target, digest, self._pool)

    def check(self, digest: str) -> None:
        path = self._blob(digest)
        if digest_of_path(path) != digest:
            raise DamagedContent(f"{path} is damaged: its bytes do not have the digest of its name")

    def put(self, name: str, data: bytes) -> None:
        write_atomically(self._folder / name, data)

    def get(self, name: str) -> bytes:
        with (self._folder / name).open("rb") as file:
            return file.read(_LARGEST_DOCUMENT)

    def names(self, prefix: str) -> list[str]:
        parent = self._folder / prefix
        found = sorted(parent.iterdir()) if parent.is_dir() else []
        return [f"{prefix}{path.name}" for path in found if not path.name.startswith(".")]

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def _blob(self, digest: str) -> Path:
        """The file of stored content. Raises BackupError."""
        path = self._blobs / digest.removeprefix("sha256:")
        if not path.exists():
            raise BackupError(f"{self._folder} lacks the content {digest}")
        return path

    def _draft(self, digest: str) -> Path:
        assert self._drafts is not None, "this repository is open for reading"
        return self._drafts / digest.removeprefix("sha256:")


class BucketRepository:
    """A bucket, or a prefix of one. An object is always complete or absent, so nothing is left to commit."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._store = S3Store(client, bucket, prefix)

    @property
    def url(self) -> str:
        return self._store.url

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes inside. A writer that was killed holds it for half a day. Raises BackupError."""
        name, now = "writer.json", time.time()
        with _converted():
            while not self._store.put_new(name, json.dumps({"since": now}).encode()):
                if self._since(name) > now - _LONGEST_WRITER:
                    raise BackupError(
                        f"another backup is being written to {self.url}: try again later; if it was killed, "
                        f"remove {self.url}/{name}"
                    )
                self._store.remove(name)
        try:
            yield
        finally:
            with _converted():
                self._store.remove(name)

    def _since(self, name: str) -> float:
        """When a writer began; 0 for one that has ended."""
        try:
            return float(json.loads(self._store.get(name))["since"])
        except NotShared:
            return 0.0
        except (ValueError, KeyError, TypeError):
            return time.time()

    def digests(self) -> set[str]:
        with _converted():
            return {f"sha256:{name.removeprefix(_BLOBS)}" for name in self._store.names(_BLOBS)}

    def stage(self, digest: str, source: Path) -> None:
        if digest_of_path(source) != digest:
            raise DamagedContent(f"{source} is damaged: its bytes do not have the digest {digest}")
        with _converted():
            self._store.put_blob(digest, source)

    def commit(self) -> None:
        pass

    def fetch(self, digest: str, target: Path) -> None:
        with _converted():
            self._store.fetch_blob(digest, target)

    def check(self, digest: str) -> None:
        with _converted():
            self._store.check_blob(digest)

    def put(self, name: str, data: bytes) -> None:
        with _converted():
            self._store.put(name, data)

    def get(self, name: str) -> bytes:
        with _converted():
            return self._store.get(name)

    def names(self, prefix: str) -> list[str]:
        with _converted():
            return sorted(self._store.names(prefix))

    def remove(self, name: str) -> None:
        with _converted():
            self._store.remove(name)


@contextmanager
def _converted() -> Iterator[None]:
    try:
        yield
    except NotShared as error:
        raise BackupError(f"{error}: it is missing from the backup") from error
    except SharedStoreError as error:
        raise BackupError(str(error)) from error
