"""What the images of an OCI layout must be."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable

from imagesmith.artifacts.layout import OciLayout

MakeImage = Callable[[str], str]


def check_layout(layout: OciLayout) -> None:
    """Every image of the index is whole: each blob has its digest, each layer its diff id."""
    entries = json.loads((layout.path / "index.json").read_text())["manifests"]
    for entry in entries:
        artifact = layout.read(entry["digest"])
        for digest, diff_id in zip(artifact.layers, artifact.diff_ids, strict=True):
            data = (layout.path / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
            assert "sha256:" + hashlib.sha256(data).hexdigest() == digest
            assert "sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest() == diff_id
