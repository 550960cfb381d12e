"""rpm's Berkeley DB database: Packages, a hash of the number of each package to its header.

    page 0      hash metadata: magic at 12, version, page size at 20, cipher at 24, type at 25, last page at 32
    hash page   26 bytes of header, then the offsets of its items, key and value in turn; items grow from its end
                an item is its type and its bytes, or the type OFFPAGE, the first page of a chain and a length
    overflow    26 bytes of header with the next page of the chain and the bytes in use, then these bytes

Numbers have the byte order of the machine that wrote them, which the magic number shows. The database is untrusted:
pages are read once in their order, a page can be part of one chain only, and every offset is checked against the
page.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from imagesmith.inspection.files import Files, UnreadableDatabase
from imagesmith.inspection.rpm.header import MAX_HEADER

_MAGIC = 0x061561
_PAGE_SIZES = frozenset(2**power for power in range(9, 17))
_METADATA, _UNSORTED, _SORTED, _OVERFLOW = 8, 2, 13, 7
_KEYDATA, _OFFPAGE = 1, 3
_HEADER = 26
_NEXT_NUMBER = bytes(4)
"""The key of the number of the next package."""


def berkeley_blobs(files: Files, path: str, file: BinaryIO) -> Iterator[bytes]:
    """The header of every package; empty for a damaged one. Raises Unreadable."""
    yield from _Hash(files, path, file).values()


class _Hash:
    """One database."""

    def __init__(self, files: Files, path: str, file: BinaryIO) -> None:
        self._files = files
        self._path = path
        self._file = file
        head = file.read(512)
        if len(head) < 512:
            raise UnreadableDatabase(f"{path} is cut short")
        for order in "<>":
            if struct.unpack_from(f"{order}I", head, 12)[0] == _MAGIC:
                break
        else:
            raise UnreadableDatabase(f"{path} is not a hash database of Berkeley DB")
        # of the header of an overflow page: the next page, references to it, bytes in use
        self._link = struct.Struct(f"{order}IHH")
        self._order = order
        self._size = struct.unpack_from(f"{order}I", head, 20)[0]
        self._last = struct.unpack_from(f"{order}I", head, 32)[0]
        cipher, kind, flags = head[24], head[25], head[26]
        if self._size not in _PAGE_SIZES or kind != _METADATA or cipher or flags & 1:
            raise UnreadableDatabase(f"{path} is a Berkeley DB of a kind that rpm does not write")
        if (self._last + 1) * self._size > file.seek(0, os.SEEK_END):
            raise UnreadableDatabase(f"{path} is cut short")
        self._chained: set[int] = set()

    def values(self) -> Iterator[bytes]:
        for number in range(1, self._last + 1):
            page = self._page(number)
            if page[25] in (_SORTED, _UNSORTED):
                yield from self._values_of(page)

    def _page(self, number: int) -> bytes:
        if not number & 0xFF:
            self._files.check()
        self._file.seek(number * self._size)
        data = self._file.read(self._size)
        if len(data) < self._size:
            raise UnreadableDatabase(f"{self._path} is cut short")
        return data

    def _values_of(self, page: bytes) -> Iterator[bytes]:
        (count,) = struct.unpack_from(f"{self._order}H", page, 20)
        if _HEADER + 2 * count > self._size or count % 2:
            yield b""
            return
        offsets = struct.unpack_from(f"{self._order}{count}H", page, _HEADER)
        for index in range(0, count, 2):
            key = self._item(page, offsets, index)
            if key[:1] == bytes([_KEYDATA]) and key[1:] == _NEXT_NUMBER:
                continue
            value = self._item(page, offsets, index + 1)
            if value[:1] == bytes([_KEYDATA]):
                yield value[1:]
            elif value[:1] == bytes([_OFFPAGE]) and len(value) == 12:
                first, length = struct.unpack_from(f"{self._order}II", value, 4)
                yield self._chain(first, length)
            else:
                yield b""

    def _item(self, page: bytes, offsets: tuple[int, ...], index: int) -> bytes:
        """An item ends where the one before it begins."""
        end = offsets[index - 1] if index else self._size
        start = offsets[index]
        return page[start:end] if _HEADER + 2 * len(offsets) <= start < end <= self._size else b""

    def _chain(self, number: int, length: int) -> bytes:
        """The bytes in a chain of overflow pages; empty when it is damaged."""
        if length > MAX_HEADER:
            return b""
        parts: list[bytes] = []
        missing = length
        while number and missing > 0:
            if number in self._chained or number > self._last:
                return b""
            self._chained.add(number)
            page = self._page(number)
            following, _, used = self._link.unpack_from(page, 16)
            if page[25] != _OVERFLOW or _HEADER + used > self._size:
                return b""
            parts.append(page[_HEADER : _HEADER + used])
            missing -= used
            number = following
        return b"".join(parts) if missing == 0 else b""
