"""Pulls images of registries into the container storage.

    docker://name --skopeo--> manifest, configuration and blobs as the registry has them --> ContainerStorage

Bytes are kept: the id of an image is the digest of the registry's configuration, in OCI's format or in docker's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from imagesmith.artifacts.layout_files import is_digest
from imagesmith.artifacts.oci import digest_of
from imagesmith.artifacts.plain_images import MOST_BYTES, layers_of
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.layers.records import LayerBlob
from imagesmith.processes import Cancellation, OnOutput

_PULL_SECONDS: Final = 3600.0


def pull_image(
    storage: ContainerStorage, reference: str, options: Iterable[str], *,
    cancellation: Cancellation | None = None, on_output: OnOutput | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Pull an image; `options` are skopeo's for the registry. Returns its id in the storage and the digest of its
    manifest. Raises ProcessFailed, StorageError, Cancelled."""
    source = [option.replace("--tls-verify", "--src-tls-verify") for option in options]
    with storage.scratch() as folder:
        _copy(storage, [*source, f"docker://{reference}"], folder / "image", reference, cancellation, on_output)
        manifest = _read(folder / "image" / "manifest.json", reference)
        digest = digest_of(manifest)
        layout = folder / "image"
        if _document(manifest, reference).get("schemaVersion") == 1:
            layout = folder / "converted"
            argv = ["--format=v2s2", f"dir:{folder / 'image'}"]
            _copy(storage, argv, layout, reference, cancellation, on_output)
        return image_in(layout, storage, reference), digest


def image_in(folder: Path, storage: ContainerStorage, reference: str) -> str:
    """Keep the image in a folder that skopeo wrote as `dir:`; returns its id. Raises StorageError."""
    manifest = _document(_read(folder / "manifest.json", reference), reference)
    try:
        config = _read(_blob(folder, manifest["config"]), reference)
        pairs = zip(layers_of(config), manifest["layers"], strict=True)
        blobs = [(_layer(diff_id, part), _blob(folder, part)) for diff_id, part in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"the image {reference} is refused: its manifest cannot be read: {error}") from error
    return storage.adopt(config, blobs)


def _copy(
    storage: ContainerStorage, argv: Iterable[str], target: Path, reference: str,
    cancellation: Cancellation | None, on_output: OnOutput | None,
) -> None:  # fmt: skip
    storage.tool(
        ["skopeo", "copy", "--quiet", *argv, f"dir:{target}"], what=f"pulling {reference}", timeout=_PULL_SECONDS,
        cancellation=cancellation, on_output=on_output,
    )  # fmt: skip


def _layer(diff_id: str, part: Mapping[str, Any]) -> LayerBlob:
    return LayerBlob(diff_id, str(part["digest"]), int(part["size"]), str(part["mediaType"]))


def _blob(layout: Path, part: Mapping[str, Any]) -> Path:
    digest = part["digest"]
    if not isinstance(digest, str) or not is_digest(digest):
        raise ValueError(f"{digest!r} is not a digest")
    return layout / digest.removeprefix("sha256:")


def _read(path: Path, reference: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(f"the image {reference} cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise StorageError(f"the image {reference} is refused: its {path.name} has more than {MOST_BYTES} bytes")
    return data


def _document(manifest: bytes, reference: str) -> Mapping[str, Any]:
    try:
        document = json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"the image {reference} is refused: its manifest is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StorageError(f"the image {reference} is refused: its manifest is not an object")
    return document
