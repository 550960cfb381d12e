"""An inode of an ext4 file system, and what is raised for one that cannot be read."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass

from imagesmith.artifacts.disks import DiskError


class UnreadableFileSystem(DiskError):
    """A file system that is damaged, or has a feature that this reader does not support."""


@dataclass(frozen=True)
class Inode:
    """A file, folder, link or device, as stored."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    modified_ns: int
    links: int
    flags: int
    block: bytes
    """Extents, text of a short link, or device number."""
    attributes_block: int
    tail: bytes
    """The bytes behind the fixed fields: extended attributes, if any."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def device(self) -> tuple[int, int]:
        """Major and minor number."""
        old, new = struct.unpack_from("<II", self.block)
        if old:
            return (old >> 8) & 0xFF, old & 0xFF
        return (new & 0xFFF00) >> 8, (new & 0xFF) | ((new >> 12) & 0xFFF00)
