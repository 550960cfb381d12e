"""The files of an image, read out of its layers: what an unpacker of somebody else would make of them.

Each path has one line that says all that an image keeps of a file but its time:

    drwxr-xr-x 0:0
    -rw-r--r-- 0:0 text of a short file
    -rwxr-xr-x 0:0 sha256:... of a long one, or of one that is no text
    lrwxrwxrwx 0:0 -> target
    -rw-r--r-- 0:0 text = /other/name {user.note=78}      hard links, then attributes
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backports import zstd

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_SHORT = 200
_KINDS = {
    tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TreeNode:
    """A file; several names of it are hard links."""

    mode: int
    text: str
    attributes: str

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


Nodes = dict[str, TreeNode]
"""Files by their absolute path."""


def lines_of(nodes: Mapping[str, TreeNode]) -> dict[str, str]:
    """The line of each path."""
    names: dict[TreeNode, list[str]] = {}
    for path, node in nodes.items():
        names.setdefault(node, []).append(path)
    lines: dict[str, str] = {}
    for path, node in nodes.items():
        others = sorted(name for name in names[node] if name != path)
        lines[path] = node.text + "".join(f" = {name}" for name in others) + node.attributes
    return lines


def with_layers(layers: Iterable[bytes], below: Mapping[str, TreeNode] | None = None) -> Nodes:
    """The files of some layers over others."""
    nodes = dict(below or {})
    for layer in layers:
        _apply(nodes, _unpressed(layer))
    return nodes


def _unpressed(layer: bytes) -> bytes:
    if layer[:2] == b"\x1f\x8b":
        return gzip.decompress(layer)
    return zstd.decompress(layer) if layer[:4] == b"\x28\xb5\x2f\xfd" else layer


def _apply(nodes: Nodes, layer: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r:") as tar:
        members = tar.getmembers()
        for member in members:
            folder, _, name = _path_of(member.name).rpartition("/")
            if name == _OPAQUE:
                _remove(nodes, folder, itself=False)
            elif name.startswith(_WHITEOUT):
                _remove(nodes, f"{folder}/{name.removeprefix(_WHITEOUT)}")
        for member in members:
            path = _path_of(member.name)
            if path == "/" or path.rpartition("/")[2].startswith(_WHITEOUT):
                continue
            node = nodes[_path_of(member.linkname)] if member.islnk() else _node(tar, member)
            if not node.is_folder or (path in nodes and not nodes[path].is_folder):
                _remove(nodes, path)
            nodes[path] = node


def _path_of(name: str) -> str:
    name = name.removeprefix("./").strip("/")
    return "/" if name == "." else f"/{name}"


def _remove(nodes: Nodes, path: str, *, itself: bool = True) -> None:
    for name in [name for name in nodes if name.startswith(f"{path}/") or (itself and name == path)]:
        del nodes[name]


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo) -> TreeNode:
    kind = _KINDS[member.type]
    # the mode of a link is nowhere obeyed, and writers differ
    mode = kind | (0o777 if member.issym() else member.mode & 0o7777)
    text = f"{stat.filemode(mode)} {member.uid}:{member.gid}"
    if member.issym():
        text += f" -> {member.linkname}"
    elif member.isreg():
        file = tar.extractfile(member)
        text += f" {_content(file.read() if file else b'')}"
    elif member.ischr() or member.isblk():
        text += f" {member.devmajor},{member.devminor}"
    found = {key.removeprefix(_XATTR): value for key, value in member.pax_headers.items() if key.startswith(_XATTR)}
    attributes = "".join(
        f" {{{key}={value.encode(errors='surrogateescape').hex()}}}" for key, value in sorted(found.items())
    )
    return TreeNode(mode, text, attributes)


def _content(data: bytes) -> str:
    try:
        if len(data) <= _SHORT:
            return data.decode()
    except UnicodeDecodeError:
        pass
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
