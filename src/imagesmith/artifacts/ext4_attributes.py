"""Extended attributes and access control lists of an ext4 file system, in the form of setxattr.

Names of `trusted.` are left out: they control the file system that they are copied to, such as an overlay.
"""

from __future__ import annotations

import struct
from typing import Final

from imagesmith.artifacts.ext4_inode import Inode, UnreadableFileSystem

_LARGEST_ATTRIBUTE: Final = 64 * 1024
_PREFIXES: Final = {1: "user.", 6: "security."}
_ACLS: Final = {2: "system.posix_acl_access", 3: "system.posix_acl_default"}
_ACL_IDS: Final = (0x02, 0x08)
"""Tags of an access control list that name a user or a group."""


def attributes_in(inode: Inode, data: bytes, at: int, *, base: int) -> dict[str, bytes]:
    """The attributes whose entries begin at `at`; their values are counted from `base`.

    Raises UnreadableFileSystem.
    """
    found = {}
    while at + 16 <= len(data) and any(data[at : at + 4]):
        name_length, index, offset, value_inode, size = struct.unpack_from("<BBHII", data, at)
        name = data[at + 16 : at + 16 + name_length]
        at += (16 + name_length + 3) & ~3
        start = base + offset
        if value_inode or size > _LARGEST_ATTRIBUTE or start + size > len(data) or len(name) != name_length:
            raise UnreadableFileSystem(f"the attributes of inode {inode.number} are damaged, or stored apart")
        value = data[start : start + size]
        if index in _ACLS:
            found[_ACLS[index]] = _access_list(inode, value)
        elif index in _PREFIXES:
            found[_PREFIXES[index] + name.decode(errors="surrogateescape")] = value
    return found


def _access_list(inode: Inode, value: bytes) -> bytes:
    """The list in the form of setxattr: ext4 leaves out the ids of entries that need none."""
    out = bytearray(struct.pack("<I", 2))
    at = 4
    while at + 4 <= len(value):
        tag, rights = struct.unpack_from("<HH", value, at)
        at += 4
        id = 0xFFFFFFFF
        if tag in _ACL_IDS:
            if at + 4 > len(value):
                raise UnreadableFileSystem(f"the access control list of inode {inode.number} is damaged")
            (id,) = struct.unpack_from("<I", value, at)
            at += 4
        out += struct.pack("<HHI", tag, rights, id)
    return bytes(out)
