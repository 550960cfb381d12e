"""rpm's own database of SUSE: Packages.db, one file of slots and blobs. All numbers are little-endian.

    page 0...   header `RpmP`, version, generation, pages of slots; then slots of 16 bytes up to their end:
                `Slot` | number of the package | offset in 16-byte blocks, 0 for a free slot | blocks
    blob        `BlbS` | number of the package | generation | bytes | the header, then zeros to a multiple of 16 |
                adler32 of all before it | bytes | `BlbE`

The database is untrusted: every offset and length is checked against the size of the file, no blob is read twice.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from imagesmith.inspection.files import Files, UnreadableDatabase
from imagesmith.inspection.rpm.header import MAX_HEADER

_MAGIC, _SLOT, _START, _END = (int.from_bytes(word, "little") for word in (b"RpmP", b"Slot", b"BlbS", b"BlbE"))
_PAGE, _BLOCK, _SLOT_SIZE = 4096, 16, 16
_FIRST_SLOT = 2
"""The header takes the place of two slots."""

_MAX_SLOT_PAGES = 2048
_HEADER = struct.Struct("<8I")
_WORDS = struct.Struct("<4I")
_TAIL = struct.Struct("<3I")


def ndb_blobs(files: Files, path: str, file: BinaryIO) -> Iterator[bytes]:
    """The header of every package; empty for a damaged one. Raises Unreadable."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise UnreadableDatabase(f"{path} is cut short")
    magic, version, _, pages, *_ = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise UnreadableDatabase(f"{path} is not an ndb database of rpm")
    if version != 0 or not 0 < pages <= _MAX_SLOT_PAGES:
        raise UnreadableDatabase(f"{path} has version {version} of its format and {pages} pages of slots")
    file.seek(0)
    slots = file.read(pages * _PAGE)
    if len(slots) < pages * _PAGE:
        raise UnreadableDatabase(f"{path} is cut short")
    taken: set[int] = set()
    for magic, number, offset, blocks in _WORDS.iter_unpack(slots[_FIRST_SLOT * _SLOT_SIZE :]):
        if magic != _SLOT:
            raise UnreadableDatabase(f"{path} has a damaged table of slots")
        if offset == 0:
            continue
        files.check()
        if offset in taken or offset * _BLOCK < len(slots) or (offset + blocks) * _BLOCK > size:
            yield b""
            continue
        taken.add(offset)
        yield _blob(file, number, offset, blocks)


def _blob(file: BinaryIO, number: int, offset: int, blocks: int) -> bytes:
    """The header in a blob; empty when the blob is damaged."""
    length = blocks * _BLOCK
    if not _WORDS.size + _TAIL.size <= length <= MAX_HEADER:
        return b""
    file.seek(offset * _BLOCK)
    data = file.read(length)
    if len(data) < length:
        return b""
    start, owner, _, size = _WORDS.unpack_from(data)
    checksum, again, end = _TAIL.unpack_from(data, length - _TAIL.size)
    if (start, owner, again, end) != (_START, number, size, _END) or _WORDS.size + size + _TAIL.size > length:
        return b""
    if zlib.adler32(data[: length - _TAIL.size]) != checksum:
        return b""
    return data[_WORDS.size : _WORDS.size + size]
