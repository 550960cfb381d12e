"""Documents kept beside an image: OCI artifacts whose manifest names the image as its subject.

    index.json entry --> manifest (artifactType, subject = the image, one layer = the document, empty config)

The manifest is what a registry stores as well, so that the digest of an attached document is the same in both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagesmith.artifacts.layout import MANIFEST_TYPE, SUBJECT, LayoutError, OciLayout

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"


@dataclass(frozen=True)
class Document:
    """What is attached: one file. `kind` is the artifact type, `media_type` that of the file."""

    kind: str
    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Stand in the manifest; documents of one kind and the same annotations replace each other in the layout."""


@dataclass(frozen=True)
class Referrer:
    """An attached document as it stands in the layout or in a registry; `manifest` as stored."""

    digest: str
    manifest: bytes
    document: Document


def referrer(subject: Mapping[str, Any], document: Document) -> Referrer:
    """The artifact for a document; `subject` is the descriptor of the image: mediaType, digest, size."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": document.kind,
        "config": _descriptor(EMPTY_TYPE, EMPTY),
        "layers": [_descriptor(document.media_type, document.data)],
        "subject": dict(subject),
        **({"annotations": dict(document.annotations)} if document.annotations else {}),
    }
    data = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    return Referrer(_digest(data), data, document)


def attach(layout: OciLayout, image: str, document: Document) -> str:
    """Keep a document beside an image of the layout; gives the digest of its manifest. Raises LayoutError."""
    size = len(layout.manifest_bytes(image))
    made = referrer({"mediaType": MANIFEST_TYPE, "digest": image, "size": size}, document)
    entry = {
        "mediaType": MANIFEST_TYPE,
        "digest": made.digest,
        "size": len(made.manifest),
        "artifactType": document.kind,
        "annotations": {**document.annotations, SUBJECT: image},
    }
    layout.add_artifact(entry, [EMPTY, document.data, made.manifest])
    return made.digest


def attached(layout: OciLayout, image: str, kind: str = "") -> tuple[Referrer, ...]:
    """The documents beside an image, oldest first; `kind` restricts. Raises LayoutError when one is damaged."""
    entries = [entry for entry in layout.artifacts(image) if kind in ("", entry.get("artifactType"))]
    return tuple(_read(layout, str(entry["digest"])) for entry in entries)


def document_of(manifest: Mapping[str, Any], data: bytes) -> Document:
    """The document that an artifact's manifest and its one layer make."""
    return Document(
        kind=str(manifest.get("artifactType", "")),
        media_type=str(manifest["layers"][0]["mediaType"]),
        data=data,
        annotations=manifest.get("annotations") or {},
    )


def _read(layout: OciLayout, digest: str) -> Referrer:
    raw = layout.manifest_bytes(digest)
    manifest = json.loads(raw)
    if len(manifest["layers"]) != 1:
        raise LayoutError(
            f"artifact {digest} in the layout {layout.path} has {len(manifest['layers'])} layers, not 1"
        )
    return Referrer(digest, raw, document_of(manifest, layout.blob(str(manifest["layers"][0]["digest"]))))


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
