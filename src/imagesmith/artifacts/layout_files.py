"""The files of an OCI layout: blobs by digest, the index, work in progress; every change is atomic.

A file appears by renaming a complete, flushed one; the index is renamed last. Changes are made under one lock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from imagesmith.artifacts.intact import IntactFiles
from imagesmith.artifacts.oci import Descriptor, digest_of
from imagesmith.draft_folders import draft_folder, remove_abandoned
from imagesmith.files import PRIVATE, move_atomically, write_atomically
from imagesmith.locks import file_lock
from imagesmith.processes import Cancellation
from imagesmith.values.damaged import DamagedFile, damage, misplaced
from imagesmith.values.json_text import json_bytes

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class LayoutError(RuntimeError):
    """The requested content is missing from the layout or damaged."""


class LayoutDamaged(LayoutError, DamagedFile):
    """The index is unreadable, so the images are unknown: nothing of the layout may be removed."""


class LayoutFiles:
    """The folder of a layout; see layout.py for its parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.layers = path / "layers"
        self._tmp = path / "tmp"
        self._lock = path / "lock"
        self._intact = IntactFiles()
        for folder in (self.blobs, self.layers, self._tmp):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.locked():
            if not (path / "oci-layout").exists():
                self.write(path / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            if not (path / "index.json").exists():
                if any(self.blobs.iterdir()):
                    raise LayoutDamaged(damage(path / "index.json", "it is missing beside the blobs of images"))
                self.write_index([])

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the layout, against other threads and processes."""
        return file_lock(self._lock)

    def path_of(self, digest: str) -> Path:
        """The path of a blob, present or not. Raises LayoutError if `digest` is malformed."""
        if not is_digest(digest):
            raise LayoutError(f"{digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")
        return self.blobs / digest.removeprefix("sha256:")

    def read(self, digest: str) -> bytes:
        """A blob, checked. Raises LayoutError if it is missing or damaged."""
        try:
            data = self.path_of(digest).read_bytes()
        except FileNotFoundError as error:
            raise LayoutError(f"image {digest} is not in the layout {self.path}") from error
        if digest_of(data) != digest:
            raise LayoutError(f"blob {digest} in the layout {self.path} is damaged")
        return data

    def fault(self, digest: str, *, cancellation: Cancellation | None = None) -> str:
        """The fault of a blob; empty if it is present and intact. Raises LayoutError, Cancelled."""
        return self._intact.fault(self.path_of(digest), digest, cancellation=cancellation)

    def is_layer(self, digest: str, diff_id: str, *, cancellation: Cancellation | None = None) -> bool:
        """Whether a blob is present and intact, and is that layer: uncompressed it has the digest `diff_id`.

        Raises LayoutError, Cancelled.
        """
        if self.fault(digest, cancellation=cancellation):
            return False
        return not self._intact.fault(self.path_of(digest), diff_id, packed=True, cancellation=cancellation)

    def put(self, data: bytes) -> str:
        """Keep a blob, replacing a damaged one; returns its digest. The lock is held."""
        digest = digest_of(data)
        if self.fault(digest):
            self.write(self.path_of(digest), data)
        return digest

    def adopt(self, source: Path) -> None:
        """Move a complete file that is named by its digest to the blobs. The lock is held."""
        move_atomically(source, self.blobs / source.name, mode=PRIVATE)

    def read_index(self) -> list[Descriptor]:
        """The entries of the index. Raises LayoutDamaged."""
        index = self.path / "index.json"
        try:
            entries: list[Descriptor] = json.loads(index.read_bytes())["manifests"]
            if not all(is_digest(entry["digest"]) for entry in entries):
                raise ValueError("an entry has no digest")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise LayoutDamaged(damage(index, misplaced(error) or error)) from error
        return entries

    def write_index(self, entries: Sequence[Descriptor]) -> None:
        """Replace the index. The lock is held."""
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
        self.write(self.path / "index.json", json_bytes(document))

    def write(self, target: Path, data: bytes) -> None:
        """Create or replace a file in one step, flushed to disk. The lock is held."""
        write_atomically(target, data, drafts=self._tmp)

    def work_folder(self, *, cancellation: Cancellation | None = None) -> AbstractContextManager[Path]:
        """A folder for work in progress; a collector in another process keeps it. Raises Cancelled."""
        return draft_folder(self._tmp, lock=self._lock, cancellation=cancellation)

    def remove_others(self, needed: Collection[str]) -> int:
        """Remove unneeded blobs, and folders of dead work; returns the freed bytes. The lock is held."""
        freed = 0
        for blob in self.blobs.iterdir():
            if f"sha256:{blob.name}" not in needed:
                freed += blob.stat().st_size
                blob.unlink()
        remove_abandoned(self._tmp)
        return freed


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None
