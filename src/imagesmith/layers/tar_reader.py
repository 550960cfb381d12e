"""Reads the entries of an untrusted archive, in constant memory: ustar, pax and GNU headers.

Every size is checked before anything is read or allocated for it. Names are split into their components here, once:
no component is empty, `.`, `..` or too long, so a path of an archive cannot point outside the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from imagesmith.layers.entries import EntryKind, LayerEntry, LayerError, is_layer_xattr, shown
from imagesmith.layers.tar_headers import BLOCK, XATTR
from imagesmith.layers.tar_sparse import SparseMap, gnu_map, pax_map, read_map

MOST_EXTENDED = 1 << 20
"""Bytes of the extended headers of one entry, as in Go's reader, which other engines use."""
_LONGEST_NAME = 255
_LONGEST_PATH = 4095
_LARGEST_ID = (1 << 32) - 2
_LARGEST_SIZE = 1 << 50
_LARGEST_TIME = 1 << 40
_LARGEST_DEVICE = (0xFFF, 0xFFFFF)
_NUMBER = re.compile(rb"-?[0-9]{1,18}")
_TIME = re.compile(rb"(-?[0-9]{1,18})(?:\.[0-9]*)?")
_FLAGS = {kind.value: kind for kind in EntryKind} | {b"\0": EntryKind.FILE, b"7": EntryKind.FILE}
_EXTENDED = {b"x": "pax header", b"g": "global pax header", b"L": "long name", b"K": "long link name"}


class ArchiveSource(Protocol):
    """The archive, uncompressed."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """An entry with its name in components; none for the root folder. `sparse` maps the stored bytes, if any."""

    entry: LayerEntry
    components: tuple[bytes, ...]
    sparse: SparseMap | None = None


@dataclass
class _Extended:
    """What the extended headers before an entry say about it."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    name: bytes | None = None
    link: bytes | None = None
    size: int = 0


class TarReader:
    """Iterate over the entries; `content` returns chunks of the current one."""

    def __init__(self, source: ArchiveSource) -> None:
        self._source = source
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[ReadEntry]:
        extended = _Extended()
        while (block := self._header()) is not None:
            flag = block[156:157]
            size = _number(block[124:136], "size")
            if flag in _EXTENDED:
                self._extend(extended, flag, size)
                continue
            found = self._entry(block, flag, size, extended)
            extended = _Extended()
            yield found
            self._skip()
        if extended.records or extended.name or extended.link:
            raise LayerError("the archive ends after an extended header without its entry")

    def content(self, most: int) -> bytes:
        """The next bytes of the current entry as stored, at most this many; empty at its end."""
        if not self._left:
            return b""
        data = self._source.read(min(most, self._left))
        if not data:
            raise LayerError("the archive ends in the middle of a file")
        self._left -= len(data)
        return data

    def drain(self, check: Callable[[], object]) -> None:
        """Read what follows the end of the archive."""
        while self._source.read(1 << 20):
            check()

    def _header(self) -> bytes | None:
        block = self._block(optional=True)
        if block is None:
            return None
        if not any(block):
            following = self._block(optional=True)
            if following is not None and any(following):
                raise LayerError("the archive continues after its end")
            return None
        declared = _number(block[148:156], "checksum")
        blanked = block[:148] + b" " * 8 + block[156:]
        if declared != sum(blanked) and declared != sum(byte - 256 * (byte > 127) for byte in blanked):
            raise LayerError("the archive has a header with a wrong checksum")
        return block

    def _block(self, *, optional: bool = False) -> bytes | None:
        data = self._exactly(BLOCK, optional=optional)
        return data or None

    def _exactly(self, size: int, *, optional: bool = False) -> bytes:
        data = self._source.read(size)
        while 0 < len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                break
            data += more
        if len(data) != size and not (optional and not data):
            raise LayerError("the archive ends in the middle of an entry")
        return data

    def _extend(self, extended: _Extended, flag: bytes, size: int) -> None:
        extended.size += size
        if extended.size > MOST_EXTENDED:
            raise LayerError(f"an entry has more than {MOST_EXTENDED} bytes of {_EXTENDED[flag]}")
        data = self._exactly(size + -size % BLOCK, optional=True)[:size] if size else b""
        if len(data) != size:
            raise LayerError("the archive ends in the middle of an entry")
        if flag == b"x":
            extended.records.update(_records(data))
        elif flag == b"L":
            extended.name = data.rstrip(b"\0")
        elif flag == b"K":
            extended.link = data.rstrip(b"\0")

    def _entry(self, block: bytes, flag: bytes, size: int, extended: _Extended) -> ReadEntry:
        # an empty record takes back a name or number; an attribute may be empty
        records = {key: value for key, value in extended.records.items() if value or key.startswith(XATTR)}
        name, link = extended.name or _name(block), extended.link or _text(block[157:257])
        name, link = records.get(b"path", name), records.get(b"linkpath", link)
        if b"\0" in name or b"\0" in link:
            raise LayerError(f"{shown(name)}: a name holds a zero byte")
        if b"size" in records:
            size = _decimal(records[b"size"], "size")
        kind = EntryKind.FILE if flag == b"S" else _FLAGS.get(flag)
        if kind is None:
            raise LayerError(f"{shown(name)} is an entry of the unknown kind {flag!r}")
        if kind is EntryKind.FILE and name.endswith(b"/"):
            kind = EntryKind.FOLDER
        # only files have content, whatever the header says; as other readers do
        size = size if kind is EntryKind.FILE else 0
        if not 0 <= size <= _LARGEST_SIZE:
            raise LayerError(f"{shown(name)} is {size} bytes long")
        self._left, self._padding = size, -size % BLOCK
        sparse = self._sparse(block, flag, records) if kind is EntryKind.FILE else None
        if sparse is not None:
            name = records.get(b"GNU.sparse.name", name)
            if sparse.stored != self._left:
                raise LayerError(f"{shown(name)}: the map of a sparse file does not fit its content")
        components = split_path(name)
        entry = LayerEntry(
            kind,
            path=b"/".join(components),
            mode=_number(block[100:108], "mode") & 0o7777,
            uid=_id(records.get(b"uid"), block[108:116], name),
            gid=_id(records.get(b"gid"), block[116:124], name),
            size=size if sparse is None else sparse.size,
            mtime=_mtime(records.get(b"mtime"), block[136:148], name),
            link=_link(kind, link, name),
            device=_device(kind, block, name),
            xattrs={} if kind is EntryKind.HARD_LINK else dict(_xattrs(records)),
        )
        return ReadEntry(entry, components, sparse)

    def _sparse(self, block: bytes, flag: bytes, records: Mapping[bytes, bytes]) -> SparseMap | None:
        if flag == b"S":
            return gnu_map(block, lambda: self._exactly(BLOCK), _number)
        if b"GNU.sparse.major" in records:
            return read_map(records, self._block_of_content)
        return pax_map(records)

    def _block_of_content(self) -> bytes:
        if self._left < BLOCK:
            raise LayerError("the map of a sparse file is cut off")
        self._left -= BLOCK
        return self._exactly(BLOCK)

    def _skip(self) -> None:
        while self._left:
            self.content(1 << 20)
        if self._padding and len(self._source_padding()) != self._padding:
            raise LayerError("the archive ends in the middle of a file")
        self._padding = 0

    def _source_padding(self) -> bytes:
        return self._exactly(self._padding, optional=True)


def split_path(path: bytes) -> tuple[bytes, ...]:
    """The components of a name in an archive; an absolute one is taken from the root. Raises LayerError."""
    components = tuple(name for name in path.split(b"/") if name not in (b"", b"."))
    if b".." in components:
        raise LayerError(f"{shown(path)}: a name with `..` could lead out of the image")
    if len(path) > _LONGEST_PATH or max(map(len, components), default=0) > _LONGEST_NAME:
        raise LayerError(f"{shown(path)}: the name is too long")
    return components


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 10)
        digits = data[position:blank] if blank > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        if end <= blank + 1 or end > len(data) or data[end - 1 : end] != b"\n":
            raise LayerError("a pax header of the archive is malformed")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise LayerError("a pax header of the archive is malformed")
        yield key, value
        position = end


def _xattrs(records: Mapping[bytes, bytes]) -> Iterator[tuple[str, bytes]]:
    for key, value in records.items():
        if key.startswith(XATTR):
            name = key[len(XATTR) :].decode(errors="surrogateescape")
            if is_layer_xattr(name):
                yield name, value


def _name(block: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500])
    # GNU's own format has other fields in the place of the prefix
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _number(data: bytes, what: str) -> int:
    """A numeric field: octal digits, or binary as GNU writes large and negative ones."""
    if data[0] & 0x80:
        value = int.from_bytes(data, "big", signed=False) & ((1 << (8 * len(data) - 1)) - 1)
        return value - (1 << (8 * len(data) - 1)) if data[0] & 0x40 else value
    digits = data.partition(b"\0")[0].strip()
    if digits.translate(None, b"01234567"):
        raise LayerError(f"the archive has a header whose {what} is not a number: {digits!r}")
    return int(digits, 8) if digits else 0


def _decimal(text: bytes, what: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise LayerError(f"the archive has a pax header whose {what} is not a number: {text[:40]!r}")
    return int(text)


def _id(record: bytes | None, data: bytes, name: bytes) -> int:
    value = _number(data, "owner") if record is None else _decimal(record, "owner")
    if not 0 <= value <= _LARGEST_ID:
        raise LayerError(f"{shown(name)} has the owner {value}: there is no such id")
    return value


def _mtime(record: bytes | None, data: bytes, name: bytes) -> int:
    if record is None:
        value = _number(data, "time")
    else:
        found = _TIME.fullmatch(record)
        if found is None:
            raise LayerError(f"{shown(name)} has a time that is not a number: {record[:40]!r}")
        value = int(found[1])
    if abs(value) > _LARGEST_TIME:
        raise LayerError(f"{shown(name)} has a time out of range: {value}")
    return value


def _link(kind: EntryKind, link: bytes, name: bytes) -> bytes:
    if kind not in (EntryKind.SYMLINK, EntryKind.HARD_LINK):
        return b""
    if not link or len(link) > _LONGEST_PATH:
        raise LayerError(f"{shown(name)} is a link with a target of {len(link)} bytes")
    return link


def _device(kind: EntryKind, block: bytes, name: bytes) -> tuple[int, int]:
    if kind not in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
        return 0, 0
    device = _number(block[329:337], "device"), _number(block[337:345], "device")
    if not (0 <= device[0] <= _LARGEST_DEVICE[0] and 0 <= device[1] <= _LARGEST_DEVICE[1]):
        raise LayerError(f"{shown(name)} is a device with the numbers {device}: they are out of range")
    return device
