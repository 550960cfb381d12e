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
disk space at any moment, there is no half image, only unreferenced blobs. The digest that export_image gives is
the one that a registry shows later, because nothing compresses anew on the way.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.artifacts.layout_files import INDEX_TYPE as INDEX_TYPE
from imagesmith.artifacts.layout_files import LayoutError as LayoutError
from imagesmith.artifacts.layout_files import LayoutFiles
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.processes import Cancellation, OnOutput

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
REFERENCE = "org.opencontainers.image.ref.name"
SUBJECT = "imagesmith.subject"
"""Annotation of an index entry that is no image: the digest of the image that it says something about."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,254}")
_COPY_SECONDS = 3600.0
_COPY_ATTEMPTS = 3


class _LayerGone(Exception):
    """A layer that was here when an image was copied was collected before the image had a name: copy again."""


@dataclass(frozen=True)
class ImageArtifact:
    """A container image as it stands in the layout. `size` is the sum of its blobs, compressed, in bytes."""

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
        """What the container storage calls this image."""
        return self.config_digest.removeprefix("sha256:")


Obtain = Callable[[LayoutFiles, str], None]
"""Brings an image that is not here, by its digest, from elsewhere. Raises SharedStoreError."""


class OciLayout:
    """One layout; several builds, in several processes, may use it at once."""

    def __init__(self, path: Path, *, obtain: Obtain | None = None) -> None:
        self.path = path
        self.files = LayoutFiles(path)
        self._obtain = obtain

    # Images in and out

    def export_image(
        self,
        storage: ContainerStorage,
        image_id: str,
        ref: str | None = None,
        *,
        cancellation: Cancellation | None = None,
        on_output: OnOutput | None = None,
    ) -> ImageArtifact:
        """Copy an image of the storage into the layout, compressing only layers not seen before, and name it `ref`.

        Raises ProcessFailed (disk full, damaged storage), LayoutError, Cancelled; the layout is then as before.
        """
        return self.import_source(
            storage, f"containers-storage:@{image_id}", ref, cancellation=cancellation, on_output=on_output
        )

    def import_source(
        self,
        storage: ContainerStorage,
        source: str,
        ref: str | None = None,
        *,
        cancellation: Cancellation | None = None,
        on_output: OnOutput | None = None,
    ) -> ImageArtifact:
        """As export_image, from any source that skopeo reads (`oci:...`, `docker-archive:...`)."""
        for _ in range(_COPY_ATTEMPTS):
            with contextlib.suppress(_LayerGone):
                return self._import(storage, source, ref, cancellation=cancellation, on_output=on_output)
        raise LayoutError(f"image {source}: layers of the layout {self.path} vanish as fast as they are copied")

    def _import(
        self,
        storage: ContainerStorage,
        source: str,
        ref: str | None,
        *,
        cancellation: Cancellation | None,
        on_output: OnOutput | None,
    ) -> ImageArtifact:
        with self.files.work_folder() as work:
            blobs = work / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            # An empty file stands for each known layer: skopeo takes a blob that exists for copied, and the
            # manifest is written anew below, so nothing ever looks into it.
            for known in self.files.layers.iterdir():
                (blobs / known.stem).touch()
            storage.tool(
                [
                    "skopeo", "copy", "--quiet", "--format=oci", "--dest-compress-format=gzip",
                    source, f"oci:{work}:image",
                ],
                what=f"copying image {source} into the layout",
                timeout=_COPY_SECONDS, cancellation=cancellation, on_output=on_output,
            )  # fmt: skip
            return self._adopt(work, ref)

    def ensure_in_storage(
        self, storage: ContainerStorage, digest: str, *, cancellation: Cancellation | None = None
    ) -> str:
        """Make sure that the storage holds an image of the layout; give its image id there."""
        artifact = self.read(digest)
        if not storage.has_image(artifact.image_id):
            with self.view(digest) as view:
                storage.tool(
                    ["skopeo", "copy", "--quiet", f"oci:{view}", f"containers-storage:@{artifact.image_id}"],
                    what=f"copying image {digest} into the container storage",
                    timeout=_COPY_SECONDS, cancellation=cancellation,
                )  # fmt: skip
        return artifact.image_id

    @contextmanager
    def view(self, digest: str) -> Iterator[Path]:
        """A layout folder that holds just this image, for tools that take a path; its blobs are shared."""
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
        """The digest of a name or of a digest that is here; None when it is not."""
        for entry in self.files.read_index():
            if ref in (entry["digest"], entry.get("annotations", {}).get(REFERENCE)):
                return str(entry["digest"])
        return None

    def references(self) -> dict[str, str]:
        """Name -> digest, for every named image."""
        entries = self.files.read_index()
        names = {entry.get("annotations", {}).get(REFERENCE): entry["digest"] for entry in entries}
        return {str(name): str(digest) for name, digest in names.items() if name}

    def read(self, digest: str) -> ImageArtifact:
        """What the layout knows about an image. Raises LayoutError when it is not here."""
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

    def manifest(self, digest: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.manifest_bytes(digest))
        return document

    def manifest_bytes(self, digest: str) -> bytes:
        """The manifest of an image, which is obtained first when it is not here. Raises LayoutError."""
        if self._obtain is not None and not self.files.place(digest).exists():
            try:
                self._obtain(self.files, digest)
            except SharedStoreError as error:
                raise LayoutError(f"image {digest} is not in the layout {self.path}: {error}") from error
        return self.files.read(digest)

    def config(self, digest: str) -> dict[str, Any]:
        """The OCI configuration of an image, by the digest of its manifest."""
        document: dict[str, Any] = json.loads(self.files.read(str(self.manifest(digest)["config"]["digest"])))
        return document

    def blob(self, digest: str) -> bytes:
        """The bytes of any blob that is here, checked against its digest. Raises LayoutError."""
        return self.files.read(digest)

    def artifacts(self, subject: str) -> list[dict[str, Any]]:
        """The index entries of what is attached to an image, oldest first (artifacts/referrers.py)."""
        return [entry for entry in self.files.read_index() if entry.get("annotations", {}).get(SUBJECT) == subject]

    def total_size(self) -> int:
        """Bytes of all blobs; what several images share counts once."""
        return sum(entry.stat().st_size for entry in self.files.blobs.iterdir())

    # Names and removal

    def tag(self, digest: str, ref: str) -> None:
        """Give an image one more name; the name is taken from another image that had it."""
        self.read(digest)
        if self.resolve(ref) == digest:
            return
        with self.files.locked():
            self._name(digest, ref)

    def add_artifact(self, entry: Mapping[str, Any], blobs: Sequence[bytes]) -> None:
        """Keep an artifact: its blobs, the manifest among them, and its index entry, which replaces one of the same
        type and annotations."""

        def same(other: Mapping[str, Any]) -> bool:
            return all(other.get(name) == entry.get(name) for name in ("artifactType", "annotations"))

        with self.files.locked():
            for data in blobs:
                self.files.put(data)
            self.files.write_index([*(other for other in self.files.read_index() if not same(other)), dict(entry)])

    def delete(self, ref: str) -> bool:
        """Remove a name, or by digest an image with all its names; False when there was none. Blobs go with
        collect_garbage."""
        with self.files.locked():
            before = self.files.read_index()
            kept = [
                entry for entry in before
                if ref not in (entry["digest"], entry.get("annotations", {}).get(REFERENCE))
            ]  # fmt: skip
            if len(kept) != len(before):
                self.files.write_index(kept)
        return len(kept) != len(before)

    def collect_garbage(self) -> int:
        """Remove blobs that no image needs, and remains of interrupted work; give the bytes that became free."""
        with self.files.locked():
            needed: set[str] = set()
            entries = self.files.read_index()
            here = {entry["digest"] for entry in entries}
            # What was attached to an image goes with it.
            kept = [
                entry for entry in entries if entry.get("annotations", {}).get(SUBJECT, entry["digest"]) in here
            ]
            if len(kept) != len(entries):
                self.files.write_index(kept)
            for entry in kept:
                manifest = self.manifest(entry["digest"])
                parts = [entry, manifest["config"], *manifest["layers"]]
                needed |= {str(part["digest"]) for part in parts}
            for record in self.files.layers.iterdir():
                if json.loads(record.read_text())["digest"] not in needed:
                    record.unlink()
            return self.files.remove_others(needed)

    # Inside

    def _adopt(self, work: Path, ref: str | None) -> ImageArtifact:
        """Move what skopeo wrote into place and write the manifest that names the compressed layers."""
        copied = json.loads((work / "index.json").read_text())["manifests"][0]
        draft_path = work / "blobs" / "sha256" / str(copied["digest"]).removeprefix("sha256:")
        draft = json.loads(draft_path.read_text())
        config_blob = work / "blobs" / "sha256" / str(draft["config"]["digest"]).removeprefix("sha256:")
        diff_ids = json.loads(config_blob.read_text())["rootfs"]["diff_ids"]
        if len(diff_ids) != len(draft["layers"]):
            raise LayoutError(
                f"image {draft['config']['digest']} names {len(diff_ids)} layers, not {len(draft['layers'])}"
            )
        with self.files.locked():
            layers = [
                self._adopt_layer(work, layer, diff_id)
                for layer, diff_id in zip(draft["layers"], diff_ids, strict=True)
            ]
            self.files.adopt(config_blob)
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {**draft["config"], "mediaType": CONFIG_TYPE},
                "layers": layers,
                **({"annotations": kept} if (kept := _annotations(draft)) else {}),
            }
            data = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
            digest = self.files.put(data)
            self._name(digest, ref)
        return self.read(digest)

    def _adopt_layer(self, work: Path, layer: Mapping[str, Any], diff_id: str) -> dict[str, Any]:
        record = self.files.layers / f"{str(diff_id).removeprefix('sha256:')}.json"
        if record.exists():
            known: dict[str, Any] = json.loads(record.read_text())
            return known
        blob = work / "blobs" / "sha256" / str(layer["digest"]).removeprefix("sha256:")
        if blob.stat().st_size == 0:
            raise _LayerGone(diff_id)
        descriptor = {"digest": layer["digest"], "mediaType": LAYER_TYPE, "size": blob.stat().st_size}
        self.files.adopt(blob)
        self.files.write(record, json.dumps(descriptor, sort_keys=True).encode())
        return descriptor

    def _name(self, digest: str, ref: str | None) -> None:
        if ref is not None and not _NAME.fullmatch(ref):
            raise LayoutError(f"{ref!r} is no name of an image: letters, digits and ._/:@+- only")
        entries = self.files.read_index()
        if ref is not None:
            entries = [entry for entry in entries if entry.get("annotations", {}).get(REFERENCE) != ref]
        elif any(entry["digest"] == digest for entry in entries):
            return
        entry: dict[str, Any] = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(self.files.read(digest))}
        if ref is not None:
            entry["annotations"] = {REFERENCE: ref}
        self.files.write_index([*entries, entry])


def _annotations(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Annotations worth keeping: buildah writes empty ones about a base that has no name."""
    return {key: value for key, value in (manifest.get("annotations") or {}).items() if value}
