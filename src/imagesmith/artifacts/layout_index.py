"""The index of an OCI layout: names of images, and the documents that are attached to images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from imagesmith.artifacts.layout_files import LayoutError, LayoutFiles
from imagesmith.artifacts.oci import Descriptor
from imagesmith.artifacts.plain_images import MANIFEST_TYPE

REFERENCE: Final = "org.opencontainers.image.ref.name"
SUBJECT: Final = "imagesmith.subject"
"""Annotation of an index entry that is not an image: the digest of the image that it describes."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,254}")


class LayoutIndex:
    """Reads and changes the index of one layout."""

    def __init__(self, files: LayoutFiles) -> None:
        self._files = files

    def resolve(self, ref: str) -> str | None:
        """The digest of a name or digest in the layout; None if it is missing."""
        for entry in self._files.read_index():
            if ref in (entry["digest"], entry.get("annotations", {}).get(REFERENCE)):
                return str(entry["digest"])
        return None

    def references(self) -> dict[str, str]:
        """Name -> digest, for every named image."""
        entries = self._files.read_index()
        names = {entry.get("annotations", {}).get(REFERENCE): entry["digest"] for entry in entries}
        return {str(name): str(digest) for name, digest in names.items() if name}

    def artifacts(self, subject: str) -> list[Descriptor]:
        """The index entries of an image's attached documents, oldest first (artifacts/referrers.py)."""
        return [entry for entry in self._files.read_index() if entry.get("annotations", {}).get(SUBJECT) == subject]

    def name(self, digest: str, ref: str | None) -> None:
        """Enter an image, under a name or without one. The caller holds the lock. Raises LayoutError."""
        if ref is not None and not _NAME.fullmatch(ref):
            raise LayoutError(f"{ref!r} is not a name of an image: letters, digits and ._/:@+- only")
        entries = self._files.read_index()
        if ref is not None:
            entries = [entry for entry in entries if entry.get("annotations", {}).get(REFERENCE) != ref]
        elif any(entry["digest"] == digest for entry in entries):
            return
        entry: Descriptor = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(self._files.read(digest))}
        if ref is not None:
            entry["annotations"] = {REFERENCE: ref}
        self._files.write_index([*entries, entry])

    def add_artifact(self, entry: Descriptor, blobs: Sequence[bytes]) -> None:
        """Keep an artifact: its blobs, with the manifest, and its index entry, which replaces one of the same type
        and annotations."""

        def same(other: Descriptor) -> bool:
            return all(other.get(name) == entry.get(name) for name in ("artifactType", "annotations"))

        with self._files.locked():
            for data in blobs:
                self._files.put(data)
            self._files.write_index([*(other for other in self._files.read_index() if not same(other)), entry])

    def remove(self, ref: str) -> bool:
        """Remove a name, or by digest an image with all its names; False if there was none. collect_garbage removes
        the blobs."""
        with self._files.locked():
            before = self._files.read_index()
            kept = [
                entry for entry in before
                if ref not in (entry["digest"], entry.get("annotations", {}).get(REFERENCE))
            ]  # fmt: skip
            if len(kept) != len(before):
                self._files.write_index(kept)
        return len(kept) != len(before)

    def drop_orphans(self) -> list[Descriptor]:
        """Remove documents whose image is gone; returns the other entries. The caller holds the lock."""
        entries = self._files.read_index()
        here = {entry["digest"] for entry in entries}
        kept = [entry for entry in entries if entry.get("annotations", {}).get(SUBJECT, entry["digest"]) in here]
        if len(kept) != len(entries):
            self._files.write_index(kept)
        return kept
