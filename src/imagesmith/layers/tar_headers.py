"""Writes the headers of an archive: ustar where an entry fits, pax records for the rest.

The same entry always makes the same bytes: records are sorted, nothing of this machine or moment is in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from imagesmith.layers.entries import EntryKind, LayerEntry, LayerError, shown

BLOCK = 512
END = bytes(2 * BLOCK)
XATTR = b"SCHILY.xattr."
_NAME_BYTES = 100
_LARGEST_ID = 0o7777777
_LARGEST = 0o77777777777
_LARGEST_DEVICE = 0o7777777
_REPLACED = bytes(byte if 0x20 <= byte < 0x7F else ord("_") for byte in range(256))


def header(entry: LayerEntry) -> bytes:
    """The bytes before the content of an entry. Raises LayerError for what no archive can hold."""
    name = entry.path + b"/" if entry.kind is EntryKind.FOLDER else entry.path
    name = name if entry.path else b"./"
    records: dict[bytes, bytes] = {}
    if not _fits(name):
        records[b"path"] = name
    if not _fits(entry.link):
        records[b"linkpath"] = entry.link
    for key, value, most in (
        (b"size", entry.size, _LARGEST),
        (b"uid", entry.uid, _LARGEST_ID),
        (b"gid", entry.gid, _LARGEST_ID),
        (b"mtime", entry.mtime, _LARGEST),
    ):
        if not 0 <= value <= most:
            records[key] = str(value).encode()
    for key_text, content in entry.xattrs.items():
        key = XATTR + key_text.encode(errors="surrogateescape")
        if b"=" in key:
            raise LayerError(f"{shown(entry.path)} has the extended attribute {key_text!r}: no layer can carry `=`")
        records[key] = content
    if max(entry.device) > _LARGEST_DEVICE:
        raise LayerError(f"{shown(entry.path)} is a device with the numbers {entry.device}: they are too large")
    return _extended(name, records) + _ustar(entry, name)


def padding(size: int) -> bytes:
    """The zeros after a content of this size."""
    return bytes(-size % BLOCK)


def _extended(name: bytes, records: Mapping[bytes, bytes]) -> bytes:
    if not records:
        return b""
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    short = _shortened(b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2])
    return _block(short, b"x", size=len(data), mode=0o644) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ustar(entry: LayerEntry, name: bytes) -> bytes:
    return _block(
        _shortened(name), entry.kind.value, size=_within(entry.size, _LARGEST), mode=entry.mode & 0o7777,
        uid=_within(entry.uid, _LARGEST_ID), gid=_within(entry.gid, _LARGEST_ID),
        mtime=_within(entry.mtime, _LARGEST), link=_shortened(entry.link), device=entry.device,
    )  # fmt: skip


def _block(
    name: bytes, flag: bytes, *, size: int, mode: int, uid: int = 0, gid: int = 0, mtime: int = 0,
    link: bytes = b"", device: tuple[int, int] = (0, 0),
) -> bytes:  # fmt: skip
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_NAME_BYTES, b"\0"), mode, uid, gid, size, mtime)
    after = b"%b%bustar\x0000%b%07o\0%07o\0" % (flag, link.ljust(_NAME_BYTES, b"\0"), bytes(64), *device)
    after = after.ljust(BLOCK - len(before) - 8, b"\0")
    return b"%b%06o\0 %b" % (before, sum(before) + sum(after) + 8 * 0x20, after)


def _fits(name: bytes) -> bool:
    return len(name) <= _NAME_BYTES and name.isascii()


def _shortened(name: bytes) -> bytes:
    """What a header shows of a name that a record holds in full."""
    return name if _fits(name) else name.translate(_REPLACED)[:_NAME_BYTES].rstrip(b"/")


def _within(value: int, most: int) -> int:
    return value if 0 <= value <= most else 0
