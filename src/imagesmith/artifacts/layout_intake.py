"""Images on their way into an OCI layout, from the container storage or from what skopeo reads.

    layers known or compressed -> blobs in a work folder -> manifest -> entry of the index, last

Killed at any moment it leaves only blobs that no image needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from imagesmith.artifacts.layout_files import LayoutError, LayoutFiles
from imagesmith.artifacts.layout_index import LayoutIndex
from imagesmith.artifacts.layout_layers import KnownLayers, LayerGone, gzip_blob
from imagesmith.artifacts.oci import Descriptor, Manifest, digest_of
from imagesmith.artifacts.plain_images import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    OddConfiguration,
    layers_of,
    with_docker_members,
)
from imagesmith.artifacts.storage import ContainerStorage, reported
from imagesmith.processes import Cancellation
from imagesmith.retries import retrying

_COPY_SECONDS: Final = 3600.0
_COPY_ATTEMPTS: Final = 3


class Intake:
    """Takes images into one layout. Its methods return the digests of manifests."""

    def __init__(self, files: LayoutFiles, index: LayoutIndex) -> None:
        self._files = files
        self._index = index
        self._layers = KnownLayers(files)

    def export_image(
        self, storage: ContainerStorage, image_id: str, ref: str | None, *, annotations: Mapping[str, str] | None,
        cancellation: Cancellation | None,
    ) -> str:  # fmt: skip
        """See OciLayout.export_image."""
        return self._retried(image_id, lambda: self._export(storage, image_id, ref, annotations, cancellation))

    def import_source(
        self, storage: ContainerStorage, source: str, ref: str | None, *, cancellation: Cancellation | None
    ) -> str:
        """See OciLayout.import_source."""
        return self._retried(source, lambda: self._import(storage, source, ref, cancellation))

    def _retried(self, image: str, work: Callable[[], str]) -> str:
        try:
            return retrying(
                work, retry=lambda failure: isinstance(failure.error, LayerGone), attempts=_COPY_ATTEMPTS
            )
        except LayerGone as error:
            raise LayoutError(
                f"image {image}: layers of the layout {self._files.path} were deleted during the copy, "
                f"{_COPY_ATTEMPTS} times in a row; is garbage collection running?"
            ) from error

    def _export(
        self, storage: ContainerStorage, image_id: str, ref: str | None, annotations: Mapping[str, str] | None,
        cancellation: Cancellation | None,
    ) -> str:  # fmt: skip
        config = storage.config_bytes(image_id)
        with ExitStack() as stack:
            stack.enter_context(reported(f"taking image {image_id} into the layout"))
            work = stack.enter_context(self._files.work_folder(cancellation=cancellation))
            blobs = work / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            parts: list[Descriptor] = []
            for layer in storage.layer_blobs(image_id):
                known = self._layers.find(layer.diff_id, cancellation=cancellation)
                if known is None:
                    blob = storage.layer_blob(image_id, layer, cancellation=cancellation)
                    known = gzip_blob(storage, blob, layer, blobs, cancellation)
                parts.append(known)
            return self._keep(work, ref, config, parts, annotations)

    def _import(
        self, storage: ContainerStorage, source: str, ref: str | None, cancellation: Cancellation | None
    ) -> str:
        with self._files.work_folder() as work:
            blobs = work / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            original = storage.source_config(source)
            # An empty file stands for each known layer: skopeo skips a blob that exists, and the
            # manifest is rewritten below, so it is never read. A layer with a damaged blob is copied.
            for diff_id in _diff_ids(original):
                if self._layers.find(diff_id, cancellation=cancellation) is not None:
                    (blobs / diff_id.removeprefix("sha256:")).touch()
            storage.tool(
                [
                    "skopeo", "copy", "--quiet", "--format=oci", "--dest-compress-format=gzip",
                    source, f"oci:{work}:image",
                ],
                what=f"copying image {source} into the layout", timeout=_COPY_SECONDS, cancellation=cancellation,
            )  # fmt: skip
            return self._adopt(work, ref, original)

    def _adopt(self, work: Path, ref: str | None, original: bytes) -> str:
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
    ) -> str:  # fmt: skip
        """Write the manifest of a configuration and of layers whose new blobs are in the work folder."""
        diff_ids = _diff_ids(config)
        if len(diff_ids) != len(parts):
            raise LayoutError(f"image {digest_of(config)} names {len(diff_ids)} layers, not {len(parts)}")
        with self._files.locked():
            layers = [
                self._layers.adopt(work, part, diff_id) for part, diff_id in zip(parts, diff_ids, strict=True)
            ]
            manifest: Manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"digest": self._files.put(config), "mediaType": CONFIG_TYPE, "size": len(config)},
                "layers": layers,
            }
            if annotations:
                manifest["annotations"] = dict(annotations)
            data = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
            digest = self._files.put(data)
            self._index.name(digest, ref)
        return digest


def _diff_ids(config: bytes) -> list[str]:
    """The digests of an image's uncompressed layers, lowest first. Raises LayoutError."""
    try:
        return layers_of(config)
    except OddConfiguration as error:
        raise LayoutError(f"the configuration of the image is refused: {error}") from error


def _annotations(manifest: Manifest) -> dict[str, str]:
    """The annotations without empty ones, which buildah writes about an unnamed base."""
    return {key: value for key, value in (manifest.get("annotations") or {}).items() if value}
