"""The maps of sparse files in GNU's formats: which parts of a file an archive stores, the rest being zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from imagesmith.layers.entries import LayerError

MOST_PARTS = 100_000
_LARGEST = 1 << 50
_LONGEST_NUMBER = 18
_OLD_PARTS, _MORE_PARTS, _PART = 4, 21, 24


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Offset and length of each stored part, in order, and the size of the whole file."""

    parts: Sequence[tuple[int, int]]
    size: int

    def __post_init__(self) -> None:
        position = 0
        for offset, length in self.parts:
            if length < 0 or offset < position or offset + length > self.size:
                raise LayerError("the map of a sparse file is out of order or out of range")
            position = offset + length
        if not 0 <= self.size <= _LARGEST:
            raise LayerError(f"a sparse file is {self.size} bytes long")

    @property
    def stored(self) -> int:
        return sum(length for _, length in self.parts)


def gnu_map(block: bytes, more: Callable[[], bytes], number: Callable[[bytes, str], int]) -> SparseMap:
    """The map in an old header of GNU tar and in the blocks after it."""
    parts = _old_parts(block[386:], _OLD_PARTS, number)
    extended = block[482]
    while extended:
        following = more()
        parts += _old_parts(following, _MORE_PARTS, number)
        _bound(len(parts))
        extended = following[504]
    return SparseMap(parts, number(block[483:495], "size"))


def pax_map(records: Mapping[bytes, bytes]) -> SparseMap | None:
    """The map in pax records of the version 0.1; None if there is none."""
    if b"GNU.sparse.map" not in records and b"GNU.sparse.size" not in records:
        return None
    if b"GNU.sparse.map" not in records:
        raise LayerError("a sparse file has its map in the oldest form of pax headers: write the layer without it")
    numbers = [_decimal(text) for text in records[b"GNU.sparse.map"].split(b",")]
    _bound(len(numbers) // 2)
    return SparseMap(_paired(numbers), _decimal(records.get(b"GNU.sparse.size", b"")))


def read_map(records: Mapping[bytes, bytes], more: Callable[[], bytes]) -> SparseMap:
    """The map of the version 1.0, which is at the start of the content, in whole blocks."""
    if (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")) != (b"1", b"0"):
        raise LayerError("a sparse file has its map in an unknown form")
    text = more()
    lines = text.split(b"\n")
    wanted: int | None = None
    while wanted is None or len(lines) <= 2 * wanted + 1:
        if wanted is None and len(lines) > 1:
            wanted = _decimal(lines[0])
            _bound(wanted)
            continue
        last = lines.pop()
        if wanted is None or len(last) > _LONGEST_NUMBER:
            raise LayerError("the map of a sparse file has no number in its first block")
        lines += (last + more()).split(b"\n")
        _bound(len(lines) // 2)
    numbers = [_decimal(line) for line in lines[1 : 2 * wanted + 1]]
    return SparseMap(_paired(numbers), _decimal(records.get(b"GNU.sparse.realsize", b"")))


def _old_parts(data: bytes, count: int, number: Callable[[bytes, str], int]) -> list[tuple[int, int]]:
    found = []
    for start in range(0, count * _PART, _PART):
        field = data[start : start + _PART]
        if not field[0]:
            break
        found.append((number(field[:12], "offset"), number(field[12:], "length")))
    return found


def _paired(numbers: Sequence[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise LayerError("the map of a sparse file is cut off")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > _LONGEST_NUMBER:
        raise LayerError(f"the map of a sparse file has no number: {text[:40]!r}")
    return int(text)


def _bound(parts: int) -> None:
    if parts > MOST_PARTS:
        raise LayerError(f"a sparse file has more than {MOST_PARTS} parts")
