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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagesmith.artifacts.layout_files import INDEX_TYPE as INDEX_TYPE
from imagesmith.artifacts.layout_files import LayoutError as LayoutError
from imagesmith.artifacts.layout_files import LayoutFiles, is_digest
from imagesmith.artifacts.oci import Configuration, Descriptor, Manifest, digest_of
from imagesmith.artifacts.plain_images import CONFIG_TYPE as CONFIG_TYPE
from imagesmith.artifacts.plain_images import MANIFEST_TYPE as MANIFEST_TYPE
from imagesmith.artifacts.plain_images import OddConfiguration, layers_of, with_docker_members
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import ContainerStorage, StorageError, reported
from imagesmith.files import move_atomically, share_file
from imagesmith.layers.compression import GZIP, compression_of, pack_archive
from imagesmith.layers.records import LayerBlob
from imagesmith.processes import Cancellation
from imagesmith.retries import retrying

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
REFERENCE = "org.opencontainers.image.ref.name"
SUBJECT = "imagesmith.subject"
"""Annotation of an index entry that is not an image: the digest of the image that it describes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,254}")
_COPY_SECONDS = 3600.0
_COPY_ATTEMPTS = 3


class _LayerGone(Exception):
    """A layer was collected between the copy of an image and its naming: copy again."""


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
        return self._retried(image_id, lambda: self._export(storage, image_id, ref, annotations, cancellation))

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
        return self._retried(source, lambda: self._import(storage, source, ref, cancellation))

    def _retried(self, image: str, work: Callable[[], ImageArtifact]) -> ImageArtifact:
        try:
            return retrying(
                work, retry=lambda failure: isinstance(failure.error, _LayerGone), attempts=_COPY_ATTEMPTS
            )
        except _LayerGone as error:
            raise LayoutError(
                f"image {image}: layers of the layout {self.path} vanish as fast as they are copied"
            ) from error

    def _export(
        self, storage: ContainerStorage, image_id: str, ref: str | None, annotations: Mapping[str, str] | None,
        cancellation: Cancellation | None,
    ) -> ImageArtifact:  # fmt: skip
        config = storage.config_bytes(image_id)
        with ExitStack() as stack:
            stack.enter_context(reported(f"taking image {image_id} into the layout"))
            work = stack.enter_context(self.files.work_folder(cancellation=cancellation))
            blobs = work / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            parts: list[Descriptor] = []
            for layer in storage.layer_blobs(image_id):
                known = self._known_layer(layer.diff_id, cancellation=cancellation)
                if known is None:
                    blob = storage.layer_blob(image_id, layer, cancellation=cancellation)
                    known = _gzip_blob(blob, layer, blobs, cancellation)
                parts.append(known)
            return self._keep(work, ref, config, parts, annotations)

    def _import(
        self, storage: ContainerStorage, source: str, ref: str | None, cancellation: Cancellation | None
    ) -> ImageArtifact:
        with self.files.work_folder() as work:
            blobs = work / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            original = storage.source_config(source)
            # An empty file stands for each known layer: skopeo skips a blob that exists, and the
            # manifest is rewritten below, so it is never read. A layer with a damaged blob is copied.
            for diff_id in _diff_ids(original):
                if self._known_layer(diff_id, cancellation=cancellation) is not None:
                    (blobs / diff_id.removeprefix("sha256:")).touch()
            storage.tool(
                [
                    "skopeo", "copy", "--quiet", "--format=oci", "--dest-compress-format=gzip",
                    source, f"oci:{work}:image",
                ],
                what=f"copying image {source} into the layout", timeout=_COPY_SECONDS, cancellation=cancellation,
            )  # fmt: skip
            return self._adopt(work, ref, original)

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
                     self.files.place(part["digest"]))
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
        return [entry for entry in self.files.read_index() if entry.get("annotations", {}).get(SUBJECT) == subject]

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
            self._name(digest, ref)

    def add_artifact(self, entry: Descriptor, blobs: Sequence[bytes]) -> None:
        """Keep an artifact: its blobs, with the manifest, and its index entry, which replaces one of the same type
        and annotations."""

        def same(other: Descriptor) -> bool:
            return all(other.get(name) == entry.get(name) for name in ("artifactType", "annotations"))

        with self.files.locked():
            for data in blobs:
                self.files.put(data)
            self.files.write_index([*(other for other in self.files.read_index() if not same(other)), entry])

    def delete(self, ref: str) -> bool:
        """Remove a name, or by digest an image with all its names; False if there was none. collect_garbage removes
        the blobs."""
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
        """Remove blobs that no image needs, and remains of interrupted work; returns the freed bytes."""
        with self.files.locked():
            needed: set[str] = set()
            unknown = False
            entries = self.files.read_index()
            here = {entry["digest"] for entry in entries}
            # The documents of a removed image are removed with it.
            kept = [
                entry for entry in entries if entry.get("annotations", {}).get(SUBJECT, entry["digest"]) in here
            ]
            if len(kept) != len(entries):
                self.files.write_index(kept)
            for entry in kept:
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
                if _recorded(record) not in needed:
                    record.unlink()
            return self.files.remove_others(needed)

    # Inside

    def _adopt(self, work: Path, ref: str | None, original: bytes) -> ImageArtifact:
        """Take skopeo's output in; `original` is the configuration before skopeo made one of OCI of it."""
        copied = json.loads((work / "index.json").read_text())["manifests"][0]
        draft_path = work / "blobs" / "sha256" / str(copied["digest"]).removeprefix("sha256:")
        draft: Manifest = json.loads(draft_path.read_text())
        config_blob = work / "blobs" / "sha256" / str(draft["config"]["digest"]).removeprefix("sha256:")
        try:
            config = with_docker_members(config_blob.read_bytes(), original)
        except OddConfiguration as error:
            raise LayoutError(f"the configuration {draft['config']['digest']} is refused: {error}") from error
        return self._keep(work, ref, config, draft["layers"], _annotations(draft))

    def _keep(
        self, work: Path, ref: str | None, config: bytes, parts: Sequence[Descriptor],
        annotations: Mapping[str, str] | None = None,
    ) -> ImageArtifact:  # fmt: skip
        """Write the manifest of a configuration and of layers whose new blobs are in the work folder."""
        diff_ids = _diff_ids(config)
        if len(diff_ids) != len(parts):
            raise LayoutError(f"image {digest_of(config)} names {len(diff_ids)} layers, not {len(parts)}")
        with self.files.locked():
            layers = [self._adopt_layer(work, part, diff_id) for part, diff_id in zip(parts, diff_ids, strict=True)]
            manifest: Manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"digest": self.files.put(config), "mediaType": CONFIG_TYPE, "size": len(config)},
                "layers": layers,
            }
            if annotations:
                manifest["annotations"] = dict(annotations)
            data = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
            digest = self.files.put(data)
            self._name(digest, ref)
        return self.read(digest)

    def _adopt_layer(self, work: Path, layer: Descriptor, diff_id: str) -> Descriptor:
        known = self._known_layer(diff_id)
        if known is not None:
            return known
        blob = work / "blobs" / "sha256" / str(layer["digest"]).removeprefix("sha256:")
        if not blob.exists() or blob.stat().st_size == 0:
            raise _LayerGone(diff_id)
        descriptor: Descriptor = {"digest": layer["digest"], "mediaType": LAYER_TYPE, "size": blob.stat().st_size}
        self.files.adopt(blob)
        self.files.write(self._record(diff_id), json.dumps(descriptor, sort_keys=True).encode())
        return descriptor

    def _known_layer(self, diff_id: str, *, cancellation: Cancellation | None = None) -> Descriptor | None:
        """The descriptor of a layer whose compressed blob is present and intact.

        A record is only a hint: a wrong one would put another layer's blob into the image.
        """
        digest = _recorded(self._record(diff_id))
        if not digest or not self.files.is_layer(digest, diff_id, cancellation=cancellation):
            return None
        return {"digest": digest, "mediaType": LAYER_TYPE, "size": self.files.place(digest).stat().st_size}

    def _record(self, diff_id: str) -> Path:
        return self.files.layers / f"{self.files.place(diff_id).name}.json"

    def _name(self, digest: str, ref: str | None) -> None:
        if ref is not None and not _NAME.fullmatch(ref):
            raise LayoutError(f"{ref!r} is not a name of an image: letters, digits and ._/:@+- only")
        entries = self.files.read_index()
        if ref is not None:
            entries = [entry for entry in entries if entry.get("annotations", {}).get(REFERENCE) != ref]
        elif any(entry["digest"] == digest for entry in entries):
            return
        entry: Descriptor = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(self.files.read(digest))}
        if ref is not None:
            entry["annotations"] = {REFERENCE: ref}
        self.files.write_index([*entries, entry])


def _gzip_blob(blob: Path, layer: LayerBlob, folder: Path, cancellation: Cancellation | None) -> Descriptor:
    """Put a layer of the storage into a folder, as a file that is named by its digest: the same one if it is
    compressed by gzip already."""
    with blob.open("rb") as file:
        if compression_of(file.read(4)) == GZIP:
            share_file(blob, folder / blob.name)
            return {"digest": layer.digest, "mediaType": LAYER_TYPE, "size": layer.size}
        with (folder / "gzip").open("xb") as packed:
            made = pack_archive(file, packed, check=cancellation.check if cancellation else lambda: None)
    move_atomically(folder / "gzip", folder / made.digest.removeprefix("sha256:"))
    return {"digest": made.digest, "mediaType": LAYER_TYPE, "size": made.blob_size}


def _diff_ids(config: bytes) -> list[str]:
    """The digests of an image's uncompressed layers, lowest first. Raises LayoutError."""
    try:
        return layers_of(config)
    except OddConfiguration as error:
        raise LayoutError(f"the configuration of the image is refused: {error}") from error


def _recorded(record: Path) -> str:
    """The recorded digest of a layer; empty if the record is missing or incomplete."""
    try:
        digest = json.loads(record.read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return digest if isinstance(digest, str) and is_digest(digest) else ""


def _annotations(manifest: Manifest) -> dict[str, str]:
    """The annotations without empty ones, which buildah writes about an unnamed base."""
    return {key: value for key, value in (manifest.get("annotations") or {}).items() if value}
