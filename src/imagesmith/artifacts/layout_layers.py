"""Layers of an OCI layout that were seen before: a base is compressed once.

A record, `layers/<diff id>.json`, is only a hint: a wrong one would put another layer's blob into an image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from imagesmith.artifacts.layout_files import LayoutFiles, is_digest
from imagesmith.artifacts.oci import Descriptor
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.files import move_atomically, share_file
from imagesmith.layers.compression import GZIP, compression_of
from imagesmith.layers.records import LayerBlob
from imagesmith.processes import Cancellation

LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"


class LayerGone(Exception):
    """A layer was collected between the copy of an image and its naming: copy again."""


class KnownLayers:
    """The compressed blobs of layers, by diff id."""

    def __init__(self, files: LayoutFiles) -> None:
        self._files = files

    def find(self, diff_id: str, *, cancellation: Cancellation | None = None) -> Descriptor | None:
        """The descriptor of a layer whose compressed blob is present and intact."""
        digest = recorded_digest(self._record(diff_id))
        if not digest or not self._files.is_layer(digest, diff_id, cancellation=cancellation):
            return None
        return {"digest": digest, "mediaType": LAYER_TYPE, "size": self._files.path_of(digest).stat().st_size}

    def adopt(self, work: Path, layer: Descriptor, diff_id: str) -> Descriptor:
        """Take a layer's blob out of a work folder, unless the layer is known. The caller holds the lock.

        Raises LayerGone.
        """
        known = self.find(diff_id)
        if known is not None:
            return known
        blob = work / "blobs" / "sha256" / str(layer["digest"]).removeprefix("sha256:")
        if not blob.exists() or blob.stat().st_size == 0:
            raise LayerGone(diff_id)
        descriptor: Descriptor = {"digest": layer["digest"], "mediaType": LAYER_TYPE, "size": blob.stat().st_size}
        self._files.adopt(blob)
        self._files.write(self._record(diff_id), json.dumps(descriptor, sort_keys=True).encode())
        return descriptor

    def _record(self, diff_id: str) -> Path:
        return self._files.layers / f"{self._files.path_of(diff_id).name}.json"


def gzip_blob(
    storage: ContainerStorage, blob: Path, layer: LayerBlob, folder: Path, cancellation: Cancellation | None
) -> Descriptor:
    """Put a layer of the storage into a folder, as a file that is named by its digest: the same one if it is
    compressed by gzip already."""
    with blob.open("rb") as file:
        if compression_of(file.read(4)) == GZIP:
            share_file(blob, folder / blob.name)
            return {"digest": layer.digest, "mediaType": LAYER_TYPE, "size": layer.size}
        with (folder / "gzip").open("xb") as packed:
            made = storage.compress(file, packed, cancellation=cancellation)
    move_atomically(folder / "gzip", folder / made.digest.removeprefix("sha256:"))
    return {"digest": made.digest, "mediaType": LAYER_TYPE, "size": made.blob_size}


def recorded_digest(record: Path) -> str:
    """The recorded digest of a layer; empty if the record is missing or incomplete."""
    try:
        digest = json.loads(record.read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return digest if isinstance(digest, str) and is_digest(digest) else ""
