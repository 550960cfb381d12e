"""The parent of the corpus of Dockerfiles: the tiny image with users, and files of every kind below /src.

    /src/a.txt b.txt c.ini "a b.txt"    files with owners and modes of their own
    /src/d/one d/e/two.txt d/e/f/three d/hard1 = d/hard2 d/inner -> ../a.txt
    /src/d2/four.txt  private/five  empty/
    /src/link -> a.txt   folder-link -> /src/d   dangling -> nowhere
    /src/odd/suid fifo caps note       set-user-id, a pipe, a capability, an attribute
    /dst/over /dst/link -> over /dst/d/old /dst/way -> /dst/d

Rows may change members of its config; the layer is the same for all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testing.containers import make_tiny_root
from testing.image_trees import Nodes, with_layers

_CONFIG: Mapping[str, Any] = {
    "Env": ["PATH=/usr/bin:/bin", "TINY=yes"], "Cmd": ["/bin/sh"], "Labels": {"tiny": "1"},
}  # fmt: skip
_USERS = "root:x:0:0:root:/root:/bin/sh\nana:x:1000:1001:Ana:/home/ana:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
_GROUPS = "root:x:0:\nstaff:x:50:ana\nana:x:1001:\nnogroup:x:65534:\n"
_CAPABILITY = bytes.fromhex("0100000200200000" + "00" * 12)
"""cap_net_raw, as a file has it."""
_DOCKER = "application/vnd.docker"
_OCI = "application/vnd.oci.image"


@dataclass(frozen=True)
class _MediaTypes:
    """The types of the blobs of an image."""

    manifest: str
    config: str
    layer: str


_AS_OCI = _MediaTypes(f"{_OCI}.manifest.v1+json", f"{_OCI}.config.v1+json", f"{_OCI}.layer.v1.tar")
_AS_DOCKER = _MediaTypes(
    f"{_DOCKER}.distribution.manifest.v2+json",
    f"{_DOCKER}.container.image.v1+json",
    f"{_DOCKER}.image.rootfs.diff.tar",
)


@dataclass(frozen=True)
class OracleParents:
    """Writes parents into a folder, for both builders from the same bytes."""

    folder: Path
    layer: bytes
    nodes: Nodes
    """Its files."""

    @classmethod
    def make(cls, folder: Path) -> OracleParents:
        layer = _layer()
        return cls(folder, layer, with_layers([layer]))

    @property
    def diff_id(self) -> str:
        return _digest(self.layer)

    def oci_layout(self, changes: Mapping[str, Any]) -> str:
        """The `parentImage` text of a new OCI layout."""
        layout = Path(tempfile.mkdtemp(prefix="oci-", dir=self.folder))
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        manifest = self._write(blobs, _AS_OCI, changes)
        entry = {
            "mediaType": _AS_OCI.manifest, "digest": _digest(manifest), "size": len(manifest),
            "annotations": {"org.opencontainers.image.ref.name": "parent:1"},
        }  # fmt: skip
        (blobs / _digest(manifest)[7:]).write_bytes(manifest)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"oci:{layout}:parent:1"

    def docker_folder(self, changes: Mapping[str, Any]) -> tuple[Path, str]:
        """A new folder for the transport `dir:`, and the id of the image in it."""
        folder = Path(tempfile.mkdtemp(prefix="docker-", dir=self.folder))
        manifest = self._write(folder, _AS_DOCKER, changes)
        (folder / "manifest.json").write_bytes(manifest)
        return folder, str(json.loads(manifest)["config"]["digest"][7:])

    def _write(self, blobs: Path, types: _MediaTypes, changes: Mapping[str, Any]) -> bytes:
        """Write layer and config; returns the manifest."""

        def put(data: bytes, kind: str) -> dict[str, Any]:
            (blobs / _digest(data)[7:]).write_bytes(data)
            return {"mediaType": kind, "digest": _digest(data), "size": len(data)}

        image = {
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [self.diff_id]}, "history": [{"created_by": "parent"}],
            **changes, "config": {**_CONFIG, **changes.get("config", {})},
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": types.manifest,
            "config": put(json.dumps(image).encode(), types.config), "layers": [put(self.layer, types.layer)],
        }  # fmt: skip
        return json.dumps(manifest).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _layer() -> bytes:
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="parent-") as place:
        root = Path(place) / "root"
        root.mkdir()
        make_tiny_root(root)
        (root / "etc/passwd").write_text(_USERS)
        (root / "etc/group").write_text(_GROUPS)
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(root, arcname=".")
            for member, content in _samples():
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _samples() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    folders = (
        "src",
        "src/d",
        "src/d/e",
        "src/d/e/f",
        "src/d2",
        "src/odd",
        "src/empty",
        "src/private",
        "dst",
        "dst/d",
    )
    for number, name in enumerate(folders):
        mode = 0o700 if name == "src/private" else 0o755
        yield _member(name, tarfile.DIRTYPE, mode=mode, owner=number), b""
    files = (
        "a.txt",
        "b.txt",
        "c.ini",
        "d/one",
        "d/e/two.txt",
        "d/e/f/three",
        "d/hard1",
        "d2/four.txt",
        "private/five",
    )
    for number, name in enumerate((*files, "a b.txt")):
        yield _member(f"src/{name}", mode=0o600 + number, owner=20 + number), f"{name}\n".encode()
    # with owner and mode of its file, as every archiver writes it
    yield _member("src/d/hard2", tarfile.LNKTYPE, mode=0o606, owner=26, link="src/d/hard1"), b""
    links = {"src/d/inner": "../a.txt", "src/link": "a.txt", "src/folder-link": "/src/d", "src/dangling": "nowhere"}
    for name, target in {**links, "dst/link": "over", "dst/way": "/dst/d"}.items():
        yield _member(name, tarfile.SYMTYPE, link=target), b""
    yield _member("src/odd/suid", mode=0o4755), b"suid"
    yield _member("src/odd/fifo", tarfile.FIFOTYPE), b""
    yield _member("src/odd/caps", mode=0o755, attributes={"security.capability": _CAPABILITY}), b"caps"
    yield _member("src/odd/note", attributes={"user.note": b"noted"}), b"note"
    yield _member("dst/over"), b"over\n"
    yield _member("dst/d/old", owner=5), b"old\n"


def _member(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    *,
    mode: int = 0o644,
    owner: int = 0,
    link: str = "",
    attributes: Mapping[str, bytes] | None = None,
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.uid, member.gid, member.linkname = kind, mode, owner, 2 * owner, link
    member.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in (attributes or {}).items()
    }
    return member
