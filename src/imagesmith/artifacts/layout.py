"""The embedded OCI layout: every finished container image, by digest, until and after it is pushed.

    oci/
      oci-layout, index.json      a standard OCI image layout; refs are ACCOUNT/REGION/NAME:VERSION-BUILD
      blobs/sha256/<digest>       configs, manifests, gzip layers
      plain/sha256/<diff id>      uncompressed layers of bases, so that builds on them do not write them again
      compressed/<diff id>        which blob a layer became: {"digest": ..., "size": ...}
      work/                       half-made things; emptied by sweep()
      lock                        held while index.json or the set of blobs changes

Invariants: a blob under its digest is whole (written aside, flushed, renamed). An image is visible when index.json
names it, and then all its blobs are there. A layer is compressed once, so one image has one digest everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from imagesmith.artifacts.locks import file_lock
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.processes import Cancellation

_CHUNK = 1024 * 1024
_LEVEL = 5
"""gzip level: a little larger than 6 and a good deal faster."""

_REF_NAME = "org.opencontainers.image.ref.name"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_COPY_SECONDS = 3600
_GRACE_SECONDS = 3600


class LayoutError(RuntimeError):
    """The layout does not hold what was asked for, or cannot take it."""


@dataclass(frozen=True)
class ImageArtifact:
    """An image of the layout."""

    reference: str
    digest: str
    """Of the manifest, the same here and in every registry."""
    size: int
    """Bytes of config and compressed layers."""
    image_id: str
    """Digest of the config without `sha256:`, which is the id in the container storage."""
    config: Mapping[str, Any]


class OciLayout:
    """The layout in one folder; safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for folder in ("blobs/sha256", "plain/sha256", "compressed", "work"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        if not (path / "index.json").exists():
            _write_json(path / "index.json", {"schemaVersion": 2, "manifests": []})
        _write_json(path / "oci-layout", {"imageLayoutVersion": "1.0.0"})

    def export_image(
        self,
        storage: ContainerStorage,
        image_id: str,
        reference: str,
        *,
        is_base: bool = False,
        annotations: Mapping[str, str] | None = None,
        cancellation: Cancellation | None = None,
        on_line: Callable[[str], None] = lambda _line: None,
    ) -> ImageArtifact:
        """Keep an image of the storage under a reference, which may exist and is then moved.

        `is_base`: its layers are kept uncompressed too. Raises ProcessFailed, OSError, Cancelled.
        """
        with self._work() as work:
            self._copy_plain(storage, image_id, work, cancellation)
            manifest = _manifest_of(work)
            layers = []
            for entry in manifest["layers"]:
                if cancellation is not None:
                    cancellation.check()
                layers.append(self._compressed(entry["digest"], on_line))
            config = self._take(self._plain(manifest["config"]["digest"]), manifest["config"]["digest"])
            final = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {**manifest["config"], "size": config},
                "layers": layers,
                **({"annotations": dict(annotations)} if annotations else {}),
            }
            digest, size = self._put_json(final)
            with file_lock(self.path / "lock"):
                self._point(reference, digest, size)
            if not is_base:
                self._drop_plain(entry["digest"] for entry in manifest["layers"])
            self._plain(manifest["config"]["digest"]).unlink(missing_ok=True)
        return self.resolve(reference)

    def ensure_in_storage(
        self, storage: ContainerStorage, artifact: ImageArtifact, *, cancellation: Cancellation | None = None
    ) -> str:
        """Make an image of the layout usable in the storage and give its id. Raises ProcessFailed, Cancelled."""
        if not storage.has_image(artifact.image_id):
            storage.tool(
                [
                    "skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{self.path}:{artifact.reference}",
                    f"containers-storage:imagesmith.local/image:{artifact.image_id[:24]}",
                ],
                what=f"unpacking {artifact.reference}",
                timeout=_COPY_SECONDS,
                cancellation=cancellation,
            )  # fmt: skip
        return artifact.image_id

    def resolve(self, reference: str) -> ImageArtifact:
        """The image of a reference, or of a digest `sha256:...`. Raises LayoutError."""
        for entry in self._index()["manifests"]:
            name = entry.get("annotations", {}).get(_REF_NAME, "")
            if reference in (name, entry["digest"]):
                return self._artifact(name, entry["digest"])
        raise LayoutError(f"there is no image {reference} in {self.path}")

    def delete(self, reference: str) -> None:
        """Forget an image and free the blobs that no other image needs."""
        with file_lock(self.path / "lock"):
            index = self._index()
            index["manifests"] = [
                entry for entry in index["manifests"] if entry.get("annotations", {}).get(_REF_NAME) != reference
            ]
            _write_json(self.path / "index.json", index)
            self._collect(index, grace_seconds=_GRACE_SECONDS)

    def sweep(self) -> None:
        """Remove what exports that died left behind. Call it when no export runs."""
        shutil.rmtree(self.path / "work", ignore_errors=True)
        (self.path / "work").mkdir(exist_ok=True)
        with file_lock(self.path / "lock"):
            self._collect(self._index(), grace_seconds=0)

    def _artifact(self, reference: str, digest: str) -> ImageArtifact:
        try:
            manifest = json.loads(self._blob(digest).read_bytes())
            config = json.loads(self._blob(manifest["config"]["digest"]).read_bytes())
        except (OSError, ValueError, KeyError) as error:
            raise LayoutError(f"the image {reference} in {self.path} is damaged: {error}") from error
        size = manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
        image_id = manifest["config"]["digest"].removeprefix("sha256:")
        return ImageArtifact(reference, digest, size, image_id, config)

    def _copy_plain(
        self, storage: ContainerStorage, image_id: str, work: Path, cancellation: Cancellation | None
    ) -> None:
        # a layer whose plain blob is here already is not written again: that is what makes exports quick
        storage.tool(
            [
                "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-oci-accept-uncompressed-layers",
                f"--dest-shared-blob-dir={self.path / 'plain'}",
                f"containers-storage:@{image_id}", f"oci:{work}:image",
            ],
            what="writing the image's layers",
            timeout=_COPY_SECONDS,
            cancellation=cancellation,
        )  # fmt: skip

    def _compressed(self, diff_id: str, on_line: Callable[[str], None]) -> dict[str, Any]:
        """The descriptor of a layer's gzip blob, made when it is new."""
        record = self.path / "compressed" / diff_id.removeprefix("sha256:")
        if record.exists():
            known: dict[str, Any] = json.loads(record.read_text())
            if self._blob(known["digest"]).exists():
                # young again: a collection that runs now must not take it for a leftover
                os.utime(self._blob(known["digest"]))
                return known
        source = self._plain(diff_id)
        on_line(f"compressing a layer of {source.stat().st_size / 1e6:.0f} MB")
        draft = self.path / "work" / uuid.uuid4().hex
        try:
            digest, size = _compress(source, draft)
            draft.replace(self._blob(digest))
        finally:
            draft.unlink(missing_ok=True)
        descriptor = {"mediaType": _LAYER, "digest": digest, "size": size}
        _write_json(record, descriptor)
        return descriptor

    def _put_json(self, value: Mapping[str, Any]) -> tuple[str, int]:
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        _write(self._blob(digest), data)
        return digest, len(data)

    def _take(self, source: Path, digest: str) -> int:
        """Copy a small blob into place; gives its size."""
        target = self._blob(digest)
        if not target.exists():
            _write(target, source.read_bytes())
        return target.stat().st_size

    def _point(self, reference: str, digest: str, size: int) -> None:
        index = self._index()
        kept = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(_REF_NAME) != reference]
        entry = {"mediaType": _MANIFEST, "digest": digest, "size": size, "annotations": {_REF_NAME: reference}}
        _write_json(self.path / "index.json", {**index, "manifests": [*kept, entry]})

    def _drop_plain(self, diff_ids: Iterator[str]) -> None:
        """Free the uncompressed layers that belong to no base."""
        kept = {
            diff_id
            for entry in self._index()["manifests"]
            if entry["annotations"][_REF_NAME].startswith("base/")
            for diff_id in self._artifact("", entry["digest"]).config["rootfs"]["diff_ids"]
        }
        for diff_id in diff_ids:
            if diff_id not in kept:
                self._plain(diff_id).unlink(missing_ok=True)

    def _collect(self, index: Mapping[str, Any], *, grace_seconds: float) -> None:
        """Remove blobs that no image of the index needs; the lock is held. Young ones may be half of an export."""
        before = time.time() - grace_seconds
        needed: set[str] = set()
        for entry in index["manifests"]:
            needed.add(entry["digest"])
            manifest = json.loads(self._blob(entry["digest"]).read_bytes())
            needed |= {manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
        for blob in (self.path / "blobs/sha256").iterdir():
            if f"sha256:{blob.name}" not in needed and blob.stat().st_mtime <= before:
                blob.unlink()

    def _index(self) -> dict[str, Any]:
        index: dict[str, Any] = json.loads((self.path / "index.json").read_text())
        return index

    def _blob(self, digest: str) -> Path:
        return self.path / "blobs/sha256" / digest.removeprefix("sha256:")

    def _plain(self, digest: str) -> Path:
        return self.path / "plain/sha256" / digest.removeprefix("sha256:")

    @contextmanager
    def _work(self) -> Iterator[Path]:
        folder = self.path / "work" / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _manifest_of(layout: Path) -> dict[str, Any]:
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    shared = layout.parent.parent / "plain/sha256" / digest
    manifest: dict[str, Any] = json.loads(shared.read_bytes())
    shared.unlink()
    return manifest


def _compress(source: Path, target: Path) -> tuple[str, int]:
    """gzip a file without name and time, flushed to disk; gives digest and size of the result."""
    with source.open("rb") as plain, target.open("wb") as raw:
        counted = _Hashing(raw)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=counted, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, _CHUNK)
        raw.flush()
        os.fsync(raw.fileno())
    return f"sha256:{counted.hash.hexdigest()}", counted.size


class _Hashing:
    """A file that hashes and counts what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, json.dumps(value, sort_keys=True).encode())
