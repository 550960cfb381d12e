"""Documents kept beside an image: OCI artifacts whose manifest names the image as its subject.

    index.json entry --> manifest (artifactType, subject = the image, one layer = the document, empty config)

A registry stores the same manifest, so the digest of an attached document is the same in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from imagesmith.artifacts.layout import MANIFEST_TYPE, SUBJECT, LayoutError, OciLayout
from imagesmith.artifacts.oci import Descriptor, Manifest, descriptor, digest_of

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"


@dataclass(frozen=True)
class Document:
    """An attached file. `kind` is the artifact type, `media_type` the type of the file."""

    kind: str
    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Annotations of the manifest; in the layout, a document replaces one of the same kind and annotations."""


@dataclass(frozen=True)
class Referrer:
    """An attached document in the layout or in a registry; `manifest` as stored."""

    digest: str
    manifest: bytes
    document: Document


def referrer(subject: Descriptor, document: Document) -> Referrer:
    """The artifact for a document; `subject` is the descriptor of the image: mediaType, digest, size."""
    manifest: Manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": document.kind,
        "config": descriptor(EMPTY_TYPE, EMPTY),
        "layers": [descriptor(document.media_type, document.data)],
        "subject": subject,
    }
    if document.annotations:
        manifest["annotations"] = document.annotations
    data = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    return Referrer(digest_of(data), data, document)


def attach(layout: OciLayout, image: str, document: Document) -> str:
    """Keep a document beside an image of the layout; returns the digest of its manifest. Raises LayoutError."""
    size = len(layout.manifest_bytes(image))
    made = referrer({"mediaType": MANIFEST_TYPE, "digest": image, "size": size}, document)
    entry: Descriptor = {
        "mediaType": MANIFEST_TYPE,
        "digest": made.digest,
        "size": len(made.manifest),
        "artifactType": document.kind,
        "annotations": {**document.annotations, SUBJECT: image},
    }
    layout.add_artifact(entry, [EMPTY, document.data, made.manifest])
    return made.digest


def attached(layout: OciLayout, image: str, kind: str = "") -> tuple[Referrer, ...]:
    """The documents beside an image, oldest first; `kind` filters. Raises LayoutError if one is damaged."""
    entries = [entry for entry in layout.artifacts(image) if kind in ("", entry.get("artifactType"))]
    return tuple(_read(layout, str(entry["digest"])) for entry in entries)


def document_of(manifest: Manifest, data: bytes) -> Document:
    """The document of an artifact, from its manifest and its one layer."""
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
