"""What differs between two disks, file by file of their root file systems, and whether more than that does."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from imagesmith.artifacts.disk_root import open_root
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.ext4 import ROOT_INODE, Ext4, Inode
from imagesmith.artifacts.image_differences import FileAttributes, file_differences

_MOST_FILES: Final = 2_000_000
_ZEROS: Final = bytes(1 << 20)


def disk_differences(one: Path, two: Path, check: Callable[[], object] = lambda: None) -> Iterator[str]:
    """A line for each file that differs between two trusted qcow2 disks. Raises DiskError."""
    with open_root(one) as first, open_root(two) as second:
        sides = [_files(root.system, check) for root in (first, second)]
    lines = list(file_differences(*sides))
    yield from lines
    if not lines:
        yield "the same files: other bytes are in the boot loaders, in the file systems or in the form of the disk"


def _files(system: Ext4, check: Callable[[], object]) -> dict[bytes, FileAttributes]:
    found: dict[bytes, FileAttributes] = {}
    waiting: list[tuple[bytes, int, frozenset[int]]] = [(b"", ROOT_INODE, frozenset())]
    while waiting:
        check()
        if len(found) >= _MOST_FILES:
            raise DiskError(f"the root file system has more than {_MOST_FILES} files")
        path, number, above = waiting.pop()
        inode = system.inode(number)
        found[path] = _attributes(system, inode, check)
        if inode.is_folder and number not in above:
            inner = above | {number}
            waiting += [
                (path + b"/" + name if path else name, child, inner) for name, child in system.entries(inode)
            ]
    return found


def _attributes(system: Ext4, inode: Inode, check: Callable[[], object]) -> FileAttributes:
    is_node = stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode)
    return {
        "mode": f"{inode.mode:06o}", "owner": f"{inode.uid}:{inode.gid}", "time": str(inode.modified_ns),
        "size": "" if inode.is_folder else str(inode.size), "links": str(inode.links),
        "link": ascii(system.link(inode)) if stat.S_ISLNK(inode.mode) else "",
        "attributes": ascii(system.attributes(inode)), "device": str(inode.device) if is_node else "",
        "sha256": _content_digest(system, inode, check) if stat.S_ISREG(inode.mode) else "",
    }  # fmt: skip


def _content_digest(system: Ext4, inode: Inode, check: Callable[[], object]) -> str:
    """The digest of what a program reads in a file, however it is stored: a hole is zeros."""
    digest, position = hashlib.sha256(), 0

    def fill(end: int) -> None:
        for at in range(position, end, len(_ZEROS)):
            check()
            digest.update(_ZEROS[: end - at])

    for offset, data in system.content(inode):
        if offset < position:
            raise DiskError(f"the extents of inode {inode.number} are not in their order")
        fill(offset)
        digest.update(data)
        position = offset + len(data)
    fill(inode.size)
    return digest.hexdigest()
