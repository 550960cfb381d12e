"""The files of an OCI layout: blobs by digest, the index, work in progress; every change whole or not at all.

A file appears by renaming a complete, flushed one; the index is renamed last. Changes are made under one lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from imagesmith.artifacts.locks import file_lock, is_locked
from imagesmith.values.json_text import json_bytes

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class LayoutError(RuntimeError):
    """The layout does not hold what was asked for, or holds something damaged."""


class LayoutFiles:
    """The folder of a layout; see layout.py for its parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.layers = path / "layers"
        self._tmp = path / "tmp"
        for folder in (self.blobs, self.layers, self._tmp):
            folder.mkdir(parents=True, exist_ok=True)
        with self.locked():
            if not (path / "oci-layout").exists():
                self.write(path / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            if not (path / "index.json").exists():
                self.write_index([])

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the layout, against other threads and processes."""
        return file_lock(self.path / "lock")

    def place(self, digest: str) -> Path:
        """Where a blob is or would be. Raises LayoutError when `digest` is none."""
        if not _DIGEST.fullmatch(digest):
            raise LayoutError(f"{digest!r} is no digest: expected sha256: and 64 hexadecimal digits")
        return self.blobs / digest.removeprefix("sha256:")

    def read(self, digest: str) -> bytes:
        """A blob, checked. Raises LayoutError when it is missing or damaged."""
        try:
            data = self.place(digest).read_bytes()
        except FileNotFoundError as error:
            raise LayoutError(f"image {digest} is not in the layout {self.path}") from error
        if digest_of(data) != digest:
            raise LayoutError(f"blob {digest} in the layout {self.path} is damaged")
        return data

    def put(self, data: bytes) -> str:
        """Keep a blob; gives its digest. The lock is held."""
        digest = digest_of(data)
        if not self.place(digest).exists():
            self.write(self.place(digest), data)
        return digest

    def adopt(self, source: Path) -> None:
        """Move a complete file that is named by its digest among the blobs. The lock is held."""
        target = self.blobs / source.name
        if not target.exists():
            _flush(source)
            source.replace(target)
            _flush(self.blobs)

    def read_index(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads((self.path / "index.json").read_text())["manifests"]
        return entries

    def write_index(self, entries: list[dict[str, Any]]) -> None:
        """Replace the index. The lock is held."""
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
        self.write(self.path / "index.json", json_bytes(document))

    def write(self, target: Path, data: bytes) -> None:
        """Create or replace a file in one step, flushed to disk. The lock is held."""
        descriptor, draft = tempfile.mkstemp(dir=self._tmp)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).chmod(0o644)
            Path(draft).replace(target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        _flush(target.parent)

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A folder for work in progress, locked so that a collector elsewhere knows that it is in use."""
        with ExitStack() as stack:
            with self.locked():  # or a collector would take the folder before its own lock is held
                work = Path(tempfile.mkdtemp(dir=self._tmp)).absolute()
                stack.callback(shutil.rmtree, work, ignore_errors=True)
                stack.enter_context(file_lock(work / "in-use"))
            yield work

    def remove_others(self, needed: Collection[str]) -> int:
        """Remove blobs whose digest is not needed, and dead work; gives the bytes that became free. The lock is
        held."""
        freed = 0
        for blob in self.blobs.iterdir():
            if f"sha256:{blob.name}" not in needed:
                freed += blob.stat().st_size
                blob.unlink()
        for left in self._tmp.iterdir():
            if not left.is_dir():
                left.unlink()
            elif not is_locked(left / "in-use"):
                shutil.rmtree(left, ignore_errors=True)
        return freed


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
