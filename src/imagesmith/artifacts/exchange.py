"""Copies images and disks between the data directory of one host and the store of all hosts (shared.py).

    built here              --publish-->  blobs, then images/<digest>.json: index entries of image and attachments
    requested, not here     --obtain-->   blobs, checked, then the entries join the index of the layout

An image is complete in the shared store when its document exists, which is written last; in a layout when its
index entry exists.
"""

from __future__ import annotations

import json
from pathlib import Path

from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.layout import MANIFEST_TYPE, OciLayout
from imagesmith.artifacts.layout_files import LayoutFiles
from imagesmith.artifacts.oci import Descriptor, Manifest
from imagesmith.artifacts.shared import SharedStore, SharedStoreError
from imagesmith.processes import Cancellation

_LARGEST_MANIFEST = 4 * 1024 * 1024
_REMEMBERED = 100_000


class Exchange:
    """Both ways between one host and a shared store."""

    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self._published: set[str] = set()

    # Images

    def publish_image(
        self, layout: OciLayout, digest: str, name: str, *, cancellation: Cancellation | None = None
    ) -> None:
        """Put an image of the layout into the shared store under a name, with all attached documents.

        May be called again, also for an image with new documents. Raises LayoutError, SharedStoreError, Cancelled.
        """
        own = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(layout.manifest_bytes(digest))}
        entries = [own, *layout.artifacts(digest)]
        for entry in entries:
            for part in _parts(layout.manifest(str(entry["digest"])), str(entry["digest"])):
                self._publish(part, layout.files.path_of(part), cancellation)
        self.store.put(_document_name(digest), json.dumps({"entries": entries}, sort_keys=True).encode())
        self.store.put(f"names/{name}", digest.encode())

    def _publish(self, digest: str, path: Path, cancellation: Cancellation | None) -> None:
        """A blob that this process has put there once is not put again: blobs are never removed."""
        if digest not in self._published:
            self.store.put_blob(digest, path, cancellation=cancellation)
            if len(self._published) >= _REMEMBERED:
                self._published.clear()
            self._published.add(digest)

    def resolve(self, reference: str) -> str:
        """The digest of the image with this name. Raises NotShared, SharedStoreError."""
        return self.store.get(f"names/{reference}").decode(errors="replace")

    def obtain_image(self, files: LayoutFiles, digest: str, *, cancellation: Cancellation | None = None) -> None:
        """Fetch an image into a layout that lacks it. Raises NotShared, SharedStoreError, Cancelled."""
        entries = self._entries(digest)
        with files.work_folder() as work:
            for entry in entries:
                manifest = self._manifest(files, work, str(entry["digest"]), cancellation)
                for part in _parts(manifest, str(entry["digest"])):
                    self._fetch(files, work, part, cancellation)
            with files.locked():
                # a collector may have removed blobs since they were found
                for entry in entries:
                    manifest = json.loads(_read(files, work, str(entry["digest"])))
                    for part in _parts(manifest, str(entry["digest"])):
                        if (work / _hex(part)).exists():
                            files.adopt(work / _hex(part))
                        elif files.fault(part):
                            raise SharedStoreError(f"blob {part} of image {digest} was deleted; try again")
                known = files.read_index()
                here = {entry["digest"] for entry in known}
                files.write_index([*known, *(entry for entry in entries if entry["digest"] not in here)])

    def _entries(self, digest: str) -> list[Descriptor]:
        """The index entries of an image, its own first."""
        name = _document_name(digest)
        try:
            found: list[Descriptor] = list(json.loads(self.store.get(name))["entries"])
            own = [entry for entry in found if entry["digest"] == digest]
        except (ValueError, KeyError, TypeError) as error:
            raise SharedStoreError(f"{self.store.url}/{name} is damaged: {error}") from error
        if not own:
            raise SharedStoreError(f"{self.store.url}/{name} is damaged: it does not name its own image")
        return found

    def _manifest(self, files: LayoutFiles, work: Path, digest: str, cancellation: Cancellation | None) -> Manifest:
        self._fetch(files, work, digest, cancellation)
        manifest: Manifest = json.loads(_read(files, work, digest))
        return manifest

    def _fetch(self, files: LayoutFiles, work: Path, digest: str, cancellation: Cancellation | None) -> None:
        if files.fault(digest, cancellation=cancellation) and not (work / _hex(digest)).exists():
            self.store.fetch_blob(digest, work / _hex(digest), cancellation=cancellation)

    # Disks

    def publish_disk(self, disks: DiskStore, digest: str, *, cancellation: Cancellation | None = None) -> None:
        """Raises DiskError, SharedStoreError, Cancelled."""
        self.store.put_blob(digest, disks.get(digest).path, cancellation=cancellation)

    def obtain_disk(self, draft: Path, digest: str) -> None:
        """Write a disk to a draft. Raises NotShared, SharedStoreError."""
        self.store.fetch_blob(digest, draft)


def _document_name(digest: str) -> str:
    return f"images/{_hex(digest)}.json"


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _parts(manifest: Manifest, digest: str) -> list[str]:
    """The digests of all blobs of an image or artifact, the manifest last."""
    return [
        str(manifest["config"]["digest"]), *(str(layer["digest"]) for layer in manifest["layers"]), digest
    ]  # fmt: skip


def _read(files: LayoutFiles, work: Path, digest: str) -> bytes:
    path = work / _hex(digest)
    with (path if path.exists() else files.path_of(digest)).open("rb") as file:
        return file.read(_LARGEST_MANIFEST)
