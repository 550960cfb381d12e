"""Reads an ext4 file system as data, so that no kernel needs to trust it: no mount, no loop device.

    superblock --> group descriptors --> inode tables --> inode --> extents | link text | device number
                                                            |--> directory entries: name -> inode
                                                            '--> extended attributes, in the inode or a block

Every number comes from an untrusted disk, so it is bounded. Unsupported features are refused by name, never
guessed: a wrong answer would become an image. (Linux: Documentation/filesystems/ext4)
"""

from __future__ import annotations

import stat
import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from imagesmith.artifacts.ext4_attributes import attributes_in
from imagesmith.artifacts.ext4_inode import Inode as Inode
from imagesmith.artifacts.ext4_inode import UnreadableFileSystem as UnreadableFileSystem
from imagesmith.artifacts.partitions import Readable

ROOT_INODE: Final = 2
_MAGIC: Final = 0xEF53
_KNOWN: Final = 0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000
"""filetype, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir."""
_NEEDS_RECOVERY: Final = 0x4
_NAMES: Final = {
    0x1: "compression", 0x8: "a journal device", 0x10: "meta_bg", 0x1000: "dirdata", 0x8000: "inline_data",
    0x10000: "encryption", 0x20000: "casefold",
}  # fmt: skip
_OTHERS: Final = (
    (0, b"XFSB", "XFS"), (0x10040, b"_BHRfS_M", "btrfs"), (0, b"LUKS\xba\xbe", "LUKS"),
    (512, b"LABELONE", "LVM"), (1024, b"\x10\x20\xf5\xf2", "F2FS"), (0, b"hsqs", "squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "EROFS"), (3, b"NTFS", "NTFS"), (82, b"FAT32", "FAT"), (54, b"FAT", "FAT"),
)  # fmt: skip
"""Offsets of the magic numbers of other file systems and their containers."""
_EXTENTS, _ENCRYPTED, _INLINE = 0x80000, 0x800, 0x10000000
_EXTENT_MAGIC: Final = 0xF30A
_DEEPEST_EXTENTS: Final = 5
_UNWRITTEN: Final = 32768
_CHUNK: Final = 256 * 1024
_CHUNKS: Final = 128
_LARGEST_READ: Final = 4 * 1024 * 1024
_LARGEST_FOLDER: Final = 256 * 1024 * 1024
_LONGEST_LINK: Final = 4096
_XATTR_MAGIC: Final = 0xEA020000


class Ext4:
    """A file system that starts at `offset` of a disk and has at most `size` bytes. Raises UnreadableFileSystem."""

    def __init__(self, disk: Readable, offset: int, size: int) -> None:
        self._disk = disk
        self._offset = offset
        self._size = size
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        block = self._bytes(1024, 1024)
        self.inodes, blocks = struct.unpack_from("<II", block)
        first, log_size = struct.unpack_from("<II", block, 0x14)
        (self._per_group,) = struct.unpack_from("<I", block, 0x28)
        magic, _ = struct.unpack_from("<HH", block, 0x38)
        (revision,) = struct.unpack_from("<I", block, 0x4C)
        (self._inode_size,) = struct.unpack_from("<H", block, 0x58)
        incompatible = struct.unpack_from("<I", block, 0x60)[0]
        if magic != _MAGIC:
            raise UnreadableFileSystem(f"{_other_system(disk, offset, size)}: only ext4 is read")
        _require_supported(incompatible)
        self.block_size = 1024 << log_size if log_size <= 5 else 0
        self._descriptor_size = struct.unpack_from("<H", block, 0xFE)[0] if incompatible & 0x80 else 32
        if (
            revision < 1 or not self.block_size or not self._per_group or not 128 <= self._inode_size <= 4096
            or not 32 <= self._descriptor_size <= 1024 or not self.inodes or blocks == 0
        ):  # fmt: skip
            raise UnreadableFileSystem("the superblock of the file system is damaged")
        self._groups_at = (first + 1) * self.block_size
        self.uuid = _uuid_text(block[0x68:0x78])
        self.label = block[0x78:0x88].split(b"\0")[0].decode(errors="replace")
        self.reserved_percent = round(100 * struct.unpack_from("<I", block, 0x8)[0] / blocks)

    def inode(self, number: int) -> Inode:
        if not 1 <= number <= self.inodes:
            raise UnreadableFileSystem(f"inode {number} is not one of {self.inodes}")
        group, index = divmod(number - 1, self._per_group)
        descriptor = self._bytes(self._groups_at + group * self._descriptor_size, self._descriptor_size)
        table = struct.unpack_from("<I", descriptor, 8)[0]
        if self._descriptor_size >= 64:
            table |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        data = self._bytes(table * self.block_size + index * self._inode_size, self._inode_size)
        mode, uid, low = struct.unpack_from("<HHI", data)
        seconds = struct.unpack_from("<i", data, 0x10)[0]
        gid, links = struct.unpack_from("<HH", data, 0x18)
        flags = struct.unpack_from("<I", data, 0x20)[0]
        acl, high = struct.unpack_from("<II", data, 0x68)
        acl_high, uid_high, gid_high = struct.unpack_from("<HHH", data, 0x76)
        extra = struct.unpack_from("<H", data, 0x80)[0] if self._inode_size > 128 else 0
        nanoseconds = 0
        if extra >= 12 and self._inode_size >= 0x8C:
            more = struct.unpack_from("<I", data, 0x88)[0]
            seconds, nanoseconds = seconds + ((more & 3) << 32), min(more >> 2, 999_999_999)
        return Inode(
            number=number, mode=mode, uid=uid | uid_high << 16, gid=gid | gid_high << 16, size=low | high << 32,
            modified_ns=seconds * 1_000_000_000 + nanoseconds, links=links, flags=flags,
            block=data[0x28:0x64], attributes_block=acl | acl_high << 32,
            tail=data[128 + extra :] if extra and 128 + extra <= self._inode_size else b"",
        )  # fmt: skip

    def entries(self, folder: Inode) -> Iterator[tuple[bytes, int]]:
        """Name and inode number of each entry of a folder, without itself and its parent."""
        if folder.size > _LARGEST_FOLDER:
            raise UnreadableFileSystem(f"folder {folder.number} has {folder.size} bytes")
        for _, data in self.content(folder, whole_blocks=True):
            for start in range(0, len(data), self.block_size):
                yield from self._block_entries(folder, data[start : start + self.block_size])

    def _block_entries(self, folder: Inode, data: bytes) -> Iterator[tuple[bytes, int]]:
        # The index of a hashed folder is stored in entries without an inode, so a linear scan reads all entries.
        at = 0
        while at + 8 <= len(data):
            number, length, name_length = struct.unpack_from("<IHB", data, at)
            if length < 8 or length % 4 or at + length > len(data) or name_length + 8 > length:
                raise UnreadableFileSystem(f"folder {folder.number} of the file system is damaged")
            name = data[at + 8 : at + 8 + name_length]
            if number and name not in (b".", b".."):
                if not name or b"/" in name or b"\0" in name:
                    raise UnreadableFileSystem(f"folder {folder.number} has an entry with the name {name!r}")
                yield name, number
            at += length

    def content(self, inode: Inode, *, whole_blocks: bool = False) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of a file, without holes, in pieces of at most a few megabytes."""
        end = inode.size if not whole_blocks else -(-inode.size // self.block_size) * self.block_size
        seen = 0
        for logical, physical, count in self._extents(inode, inode.block, 0):
            start, length = logical * self.block_size, count * self.block_size
            seen += length
            if seen > self._size:
                raise UnreadableFileSystem(f"inode {inode.number} has more bytes than its file system")
            for at in range(0, min(length, max(0, end - start)), _LARGEST_READ):
                wanted = min(_LARGEST_READ, length - at, end - start - at)
                yield start + at, self._bytes(physical * self.block_size + at, wanted)

    def link(self, inode: Inode) -> bytes:
        """The target of a symbolic link."""
        if inode.size > _LONGEST_LINK:
            raise UnreadableFileSystem(f"the link {inode.number} has {inode.size} characters")
        if inode.size < 60 and not inode.flags & _EXTENTS:
            return inode.block[: inode.size]
        return b"".join(data for _, data in self.content(inode))

    def attributes(self, inode: Inode) -> dict[str, bytes]:
        """Extended attributes in the form that setxattr accepts."""
        found: dict[str, bytes] = {}
        if len(inode.tail) >= 8 and struct.unpack_from("<I", inode.tail)[0] == _XATTR_MAGIC:
            found |= attributes_in(inode, inode.tail, 4, base=4)
        if inode.attributes_block:
            block = self._bytes(inode.attributes_block * self.block_size, self.block_size)
            if struct.unpack_from("<I", block)[0] != _XATTR_MAGIC:
                raise UnreadableFileSystem(f"the attributes of inode {inode.number} are damaged")
            found |= attributes_in(inode, block, 32, base=0)
        return found

    def find(self, path: str) -> Inode | None:
        """The inode of a path in which no part is a symbolic link, or None."""
        inode = self.inode(ROOT_INODE)
        for part in path.encode().strip(b"/").split(b"/"):
            if not stat.S_ISDIR(inode.mode):
                return None
            number = next((number for name, number in self.entries(inode) if name == part), 0)
            if not number:
                return None
            inode = self.inode(number)
        return inode

    def _extents(self, inode: Inode, node: bytes, level: int) -> Iterator[tuple[int, int, int]]:
        """(first logical block, first physical block, count) of the written extents, in order."""
        if inode.flags & (_ENCRYPTED | _INLINE) or not inode.flags & _EXTENTS:
            raise UnreadableFileSystem(f"inode {inode.number} is encrypted, inline, or mapped as in ext2")
        magic, count, _, depth = struct.unpack_from("<HHHH", node)
        if magic != _EXTENT_MAGIC or 12 + 12 * count > len(node) or level + depth > _DEEPEST_EXTENTS:
            raise UnreadableFileSystem(f"the extents of inode {inode.number} are damaged")
        for index in range(count):
            at = 12 + 12 * index
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, at)
                block = self._bytes((low | high << 32) * self.block_size, self.block_size)
                if struct.unpack_from("<H", block, 6)[0] >= depth:
                    raise UnreadableFileSystem(f"the extents of inode {inode.number} form a circle")
                yield from self._extents(inode, block, level + 1)
                continue
            logical, length, high, low = struct.unpack_from("<IHHI", node, at)
            if length <= _UNWRITTEN:
                yield logical, low | high << 32, length

    def _bytes(self, at: int, length: int) -> bytes:
        """Serves small reads from larger pieces: neighbours follow, and a disk decompresses whole clusters."""
        if length > _CHUNK:
            return self._direct(at, length)
        chunk, start = divmod(at, _CHUNK)
        found = self._chunk(chunk)[start : start + length]
        if start + length > _CHUNK:
            found += self._chunk(chunk + 1)[: length - len(found)]
        if len(found) != length:
            raise UnreadableFileSystem(f"byte {at} is beyond the end of the file system")
        return found

    def _chunk(self, number: int) -> bytes:
        data = self._chunks.get(number)
        if data is None:
            at = number * _CHUNK
            data = self._direct(at, min(_CHUNK, max(0, self._size - at)))
            self._chunks[number] = data
            if len(self._chunks) > _CHUNKS:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(number)
        return data

    def _direct(self, at: int, length: int) -> bytes:
        if at < 0 or length < 0 or at + length > self._size:
            raise UnreadableFileSystem(f"byte {at} is beyond the end of the file system")
        return self._disk.read(self._offset + at, length)


def _other_system(disk: Readable, offset: int, size: int) -> str:
    """The name of another file system, or container of one, at an offset."""
    for at, magic, name in _OTHERS:
        if at + len(magic) <= size and disk.read(offset + at, len(magic)) == magic:
            return name
    return "no file system that is known"


def _require_supported(incompatible: int) -> None:
    if incompatible & _NEEDS_RECOVERY:
        raise UnreadableFileSystem(
            "the file system was not unmounted: its journal has to be replayed by a boot first"
        )
    unknown = incompatible & ~_KNOWN
    if unknown:
        names = [name for bit, name in _NAMES.items() if unknown & bit]
        what = ", ".join(names) or hex(unknown)
        raise UnreadableFileSystem(f"the file system has features that are not known here: {what}")


def _uuid_text(data: bytes) -> str:
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
