"""The entries of a layer, and what of a file's extended attributes belongs to it.

Only the standard library is imported by the modules that read and write layers (entries, overlay_form, tar_headers,
tar_reader, writer, unpacker, lower_layers), so that they run as programs inside a namespace, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

WHITEOUT = b".wh."
"""Prefix of the name of an entry that removes the file without the prefix from the layers below."""
OPAQUE = b".wh..wh..opq"
"""Name of an entry that hides what the layers below have in its folder."""

CAPABILITY = "security.capability"
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_OVERLAY = "user.overlay."
_CAPABILITY_REVISION = 0xFF000000
_REVISION_2, _REVISION_3 = 0x02000000, 0x03000000


class LayerError(RuntimeError):
    """A layer is refused: it cannot be written, or is not safe to unpack. The text names the entry."""


class EntryKind(Enum):
    """Kinds of entries; the value is the type flag of the archive."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    FOLDER = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One entry. `path` has no leading and no final slash; the root folder's is empty."""

    kind: EntryKind
    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    """Whole seconds."""
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def is_layer_xattr(name: str) -> bool:
    """Whether an extended attribute belongs to a file of an image, and not to the overlay or to this machine."""
    return (name.startswith("user.") and not name.startswith(_OVERLAY)) or name == CAPABILITY or name in _ACLS


def is_acl(name: str) -> bool:
    return name in _ACLS


def layer_xattrs(
    names: Iterable[str], read: Callable[[str], bytes], path: bytes, *, root_id: int = 0
) -> Mapping[str, bytes]:
    """The extended attributes of a file that its layer carries. Raises LayerError.

    `root_id`: the user id outside that is root for the file's readers; a capability of another root is refused.
    """
    found = {name: read(name) for name in names if is_layer_xattr(name)}
    if CAPABILITY in found:
        found[CAPABILITY] = plain_capability(found[CAPABILITY], path, root_id)
    return found


def plain_capability(value: bytes, path: bytes, root_id: int = 0) -> bytes:
    """A file capability in its second form, which names no root user and which every engine reads."""
    try:
        (magic,) = struct.unpack_from("<I", value)
        revision = magic & _CAPABILITY_REVISION
        if revision == _REVISION_3 and len(value) == 24:
            (owner,) = struct.unpack_from("<I", value, 20)
            if owner != root_id:
                raise LayerError(f"{shown(path)} has a file capability for the root user {owner} of a namespace")
            return struct.pack("<I", (magic & ~_CAPABILITY_REVISION) | _REVISION_2) + value[4:20]
    except struct.error as error:
        raise LayerError(f"{shown(path)} has a file capability that cannot be read: {error}") from error
    return value


def shown(path: bytes) -> str:
    """A path for a person to read: quoted, absolute, whatever its bytes."""
    text = ascii("/" + path.decode(errors="surrogateescape"))
    return text if len(text) <= 300 else f"{text[:200]}...{text[-90:]}"
