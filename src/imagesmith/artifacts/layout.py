"""The embedded OCI layout: every built image, addressed by its digest, each blob kept once.

    oci/
      oci-layout  index.json      readable by any OCI tool; one entry per image and name, and one per artifact
                                  that is attached to an image (referrers.py)
      blobs/sha256/<digest>       manifests, configurations, layers (gzip)
      layers/<diff id>.json       the compressed blob of a layer that was seen before, so that a base is
                                  compressed once
      lock                        held while blobs are added or removed
      tmp/                        work in progress; emptied by collect_garbage

A blob appears by renaming a complete, flushed file, and an image by renaming the index, last: killed or out of
disk space at any moment, there is no half image, only unreferenced blobs. A registry later shows the digest
that export_image returns, because a push does not compress again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagesmith.artifacts.layout_files import INDEX_TYPE as INDEX_TYPE
from imagesmith.artifacts.layout_files import LayoutError as LayoutError
from imagesmith.artifacts.layout_files import LayoutFiles
from imagesmith.artifacts.layout_index import SUBJECT as SUBJECT
from imagesmith.artifacts.layout_index import LayoutIndex
from imagesmith.artifacts.layout_intake import Intake
from imagesmith.artifacts.layout_layers import recorded_digest
from imagesmith.artifacts.oci import Configuration, Descriptor, Manifest
from imagesmith.artifacts.plain_images import MANIFEST_TYPE as MANIFEST_TYPE
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.layers.records import LayerBlob
from imagesmith.processes import Cancellation


@dataclass(frozen=True)
class ImageArtifact:
    """A container image in the layout. `size` is the sum of its compressed blobs, in bytes."""

    digest: str
    config_digest: str
    size: int
    layers: tuple[str, ...]
    """Digests of the compressed layers, lowest first."""
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str]
    environment: tuple[str, ...]
    """`NAME=value` as in the image's configuration."""
    created: str
    architecture: str
    os: str

    @property
    def image_id(self) -> str:
        """The id of this image in the container storage."""
        return self.config_digest.removeprefix("sha256:")


Obtain = Callable[[LayoutFiles, str], None]
"""Fetches a missing image by its digest. Raises SharedStoreError."""


class OciLayout:
    """One layout; builds in several processes may use it at the same time."""

    def __init__(self, path: Path, *, obtain: Obtain | None = None) -> None:
        self.path = path
        self.files = LayoutFiles(path)
        self._obtain = obtain
        self._index = LayoutIndex(self.files)
        self._intake = Intake(self.files, self._index)

    # Images in and out

    def export_image(
        self,
        storage: ContainerStorage,
        image_id: str,
        ref: str | None = None,
        *,
        annotations: Mapping[str, str] | None = None,
        cancellation: Cancellation | None = None,
    ) -> ImageArtifact:
        """Take an image of the storage into the layout and name it `ref`. Configuration and gzip layers keep their
        bytes, other layers are compressed here; a layer that was seen before is taken from the layout.

        `annotations` are those of its manifest.
        Raises StorageError (disk full, damaged storage), LayoutError, Cancelled; the layout is then as before.
        """
        return self.read(
            self._intake.export_image(storage, image_id, ref, annotations=annotations, cancellation=cancellation)
        )

    def import_source(
        self,
        storage: ContainerStorage,
        source: str,
        ref: str | None = None,
        *,
        cancellation: Cancellation | None = None,
    ) -> ImageArtifact:
        """Like export_image, from any source that skopeo reads (`oci:...`, `docker-archive:...`). Raises
        ProcessFailed too."""
        return self.read(self._intake.import_source(storage, source, ref, cancellation=cancellation))

    def ensure_in_storage(
        self, storage: ContainerStorage, digest: str, *, cancellation: Cancellation | None = None
    ) -> str:
        """Take an image of the layout into the storage unless it is there; returns its image id. The storage shares
        the blobs, and unpacks them when they are needed. Raises LayoutError, StorageError, Cancelled."""
        artifact = self.read(digest)
        if not storage.has_image(artifact.image_id):
            self.make_whole(digest, cancellation=cancellation)
            parts = self.manifest(digest)["layers"]
            storage.adopt(
                self.files.read(artifact.config_digest),
                [
                    (LayerBlob(diff_id, part["digest"], part["size"], part["mediaType"]),
                     self.files.path_of(part["digest"]))
                    for diff_id, part in zip(artifact.diff_ids, parts, strict=True)
                ],
            )  # fmt: skip
        return artifact.image_id

    def make_whole(
        self, digest: str, storage: ContainerStorage | None = None, *, cancellation: Cancellation | None = None
    ) -> None:
        """Fetch the missing and damaged blobs of an image from the shared store or from `storage`, if they have
        them. Raises LayoutError, which names the other blobs, Cancelled."""
        faults = self._faults(digest, cancellation)
        if faults and self._obtain is not None:
            with contextlib.suppress(SharedStoreError):
                self._obtain(self.files, digest)
            faults = self._faults(digest, cancellation)
        if faults and storage is not None:
            with contextlib.suppress(LayoutError, StorageError):
                self._export_again(storage, digest, cancellation)
            faults = self._faults(digest, cancellation)
        if faults:
            raise LayoutError(
                f"image {digest} in the layout {self.path} is not whole: {'; '.join(faults)}. "
                "Take the blob from a backup or a registry that has it, or build the image again"
            )

    def _faults(self, digest: str, cancellation: Cancellation | None) -> list[str]:
        try:
            manifest = self.manifest(digest)
        except LayoutError as error:
            return [str(error)]
        parts = (str(part["digest"]) for part in (manifest["config"], *manifest["layers"]))
        faults = {part: self.files.fault(part, cancellation=cancellation) for part in parts}
        return [f"blob {part} {fault}" for part, fault in faults.items() if fault]

    def _export_again(self, storage: ContainerStorage, digest: str, cancellation: Cancellation | None) -> None:
        """Take the blobs of an image from the storage again, which has the same bytes."""
        manifest = self.manifest(digest)
        image_id = str(manifest["config"]["digest"]).removeprefix("sha256:")
        if not storage.has_image(image_id):
            return
        here = {entry["digest"] for entry in self.files.read_index()}
        made = self.export_image(
            storage, image_id, annotations=manifest.get("annotations"), cancellation=cancellation
        )
        if made.digest not in here and made.digest != digest:
            self.delete(made.digest)

    @contextmanager
    def view(self, digest: str) -> Iterator[Path]:
        """A layout folder with only this image, for tools that read a path; its blobs are shared."""
        manifest = self.manifest_bytes(digest)
        entry = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}
        with self.files.work_folder() as work:
            (work / "blobs").symlink_to(self.path.absolute() / "blobs")
            (work / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            (work / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
            yield work

    @contextmanager
    def rootfs(self, storage: ContainerStorage, digest: str, *, name: str) -> Iterator[Path]:
        """The image's root, mounted by the storage under a working container `name`; read it with rootfs.Root."""
        image_id = self.ensure_in_storage(storage, digest)
        storage.create(name, image_id)
        try:
            yield storage.mount(name)
        finally:
            storage.remove(name)

    # Reading

    def resolve(self, ref: str) -> str | None:
        """The digest of a name or digest in the layout; None if it is missing."""
        return self._index.resolve(ref)

    def references(self) -> dict[str, str]:
        """Name -> digest, for every named image."""
        return self._index.references()

    def read(self, digest: str) -> ImageArtifact:
        """The record of an image. Raises LayoutError if it is missing."""
        manifest = self.manifest(digest)
        config_digest = str(manifest["config"]["digest"])
        config = self.config(digest)
        inner = config.get("config") or {}
        parts = [manifest["config"], *manifest["layers"]]
        return ImageArtifact(
            digest=digest,
            config_digest=config_digest,
            size=sum(int(part["size"]) for part in parts),
            layers=tuple(str(layer["digest"]) for layer in manifest["layers"]),
            diff_ids=tuple(config["rootfs"]["diff_ids"]),
            labels=inner.get("Labels") or {},
            environment=tuple(inner.get("Env") or ()),
            created=str(config.get("created", "")),
            architecture=str(config.get("architecture", "")),
            os=str(config.get("os", "")),
        )

    def manifest(self, digest: str) -> Manifest:
        document: Manifest = json.loads(self.manifest_bytes(digest))
        return document

    def manifest_bytes(self, digest: str) -> bytes:
        """The manifest of an image; a missing image is obtained first. Raises LayoutError."""
        if self._obtain is not None and self.files.fault(digest):
            try:
                self._obtain(self.files, digest)
            except SharedStoreError as error:
                raise LayoutError(f"image {digest} is not in the layout {self.path}: {error}") from error
        return self.files.read(digest)

    def config(self, digest: str) -> Configuration:
        """The OCI configuration of an image, by the digest of its manifest."""
        document: Configuration = json.loads(self.files.read(str(self.manifest(digest)["config"]["digest"])))
        return document

    def blob(self, digest: str) -> bytes:
        """The bytes of any blob of the layout, checked against its digest. Raises LayoutError."""
        return self.files.read(digest)

    def artifacts(self, subject: str) -> list[Descriptor]:
        """The index entries of an image's attached documents, oldest first (artifacts/referrers.py)."""
        return self._index.artifacts(subject)

    def total_size(self) -> int:
        """Bytes of all blobs; shared blobs count once."""
        return sum(entry.stat().st_size for entry in self.files.blobs.iterdir())

    # Names and removal

    def tag(self, digest: str, ref: str) -> None:
        """Add a name to an image; another image with this name loses it."""
        self.read(digest)
        if self.resolve(ref) == digest:
            return
        with self.files.locked():
            self._index.name(digest, ref)

    def add_artifact(self, entry: Descriptor, blobs: Sequence[bytes]) -> None:
        """Keep an artifact: its blobs, with the manifest, and its index entry, which replaces one of the same type
        and annotations."""
        self._index.add_artifact(entry, blobs)

    def delete(self, ref: str) -> bool:
        """Remove a name, or by digest an image with all its names; False if there was none. collect_garbage removes
        the blobs."""
        return self._index.remove(ref)

    def collect_garbage(self) -> int:
        """Remove blobs that no image needs, and remains of interrupted work; returns the freed bytes."""
        with self.files.locked():
            needed: set[str] = set()
            unknown = False
            for entry in self._index.drop_orphans():
                try:
                    manifest = self.manifest(entry["digest"])
                except LayoutError:
                    unknown = True
                    continue
                parts = [entry, manifest["config"], *manifest["layers"]]
                needed |= {str(part["digest"]) for part in parts}
            if unknown:
                # an image whose manifest is restored from a backup finds its layers
                needed |= {f"sha256:{blob.name}" for blob in self.files.blobs.iterdir()}
            for record in self.files.layers.iterdir():
                if recorded_digest(record) not in needed:
                    record.unlink()
            return self.files.remove_others(needed)
