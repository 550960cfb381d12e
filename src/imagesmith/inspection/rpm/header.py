"""The header of one rpm package, the same in all databases.

    entries u32 | bytes u32 | entries x (tag u32, type u32, offset u32, count u32) | bytes of data

All numbers are big-endian. A header is untrusted: every offset and count is checked against its size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from imagesmith.inspection.licenses import expression_of
from imagesmith.inspection.packages import MAX_FIELD, Package
from imagesmith.inspection.suppliers import clean_supplier

MAX_HEADER = 64 * 1024 * 1024
_MAX_ENTRIES = 4096
_MAX_NAMES = 1_000_000

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH, _SOURCE, _MODULE = 1000, 1001, 1002, 1003, 1022, 1044, 5096
_VENDOR, _LICENSE = 1011, 1014
_TEXTS = frozenset({_NAME, _VERSION, _RELEASE, _ARCH, _SOURCE, _MODULE, _VENDOR, _LICENSE})
_OLD_FILES, _FOLDER_OF, _FILES, _FOLDERS = 1027, 1116, 1117, 1118
_LISTS = frozenset({_OLD_FILES, _FOLDER_OF, _FILES, _FOLDERS})
_STRING, _STRINGS, _I18N_STRING, _INT32 = 6, 8, 9, 4
_SOURCE_NAME = re.compile(r"\.(?:no)?src\.rpm\Z")
_ENTRY = struct.Struct(">IIII")
_LANGUAGE_FILES = (b"-info", b"EGG-INFO", b"package.json")
"""Text that shows files of Python or Node.js in the header of a package."""

_KEY = "gpg-pubkey"


@dataclass(frozen=True)
class Header:
    """A valid header."""

    package: Package | None
    """None for the public key of a signer, which rpm stores like a package."""
    store: bytes
    lists: dict[int, tuple[int, int, int]]
    """Type, offset and count of the lists of files."""

    def files(self) -> Iterator[bytes]:
        """Absolute paths of its files; empty for a package without files of a language."""
        if not any(mark in self.store for mark in _LANGUAGE_FILES):
            return
        yield from self._strings(_OLD_FILES)
        folders = self._strings(_FOLDERS)
        for name, index in zip(self._strings(_FILES), self._numbers(_FOLDER_OF), strict=False):
            if index < len(folders):
                yield folders[index] + name

    def _strings(self, tag: int) -> list[bytes]:
        kind, offset, count = self.lists.get(tag, (0, 0, 0))
        if kind != _STRINGS or count > _MAX_NAMES:
            return []
        return self.store[offset:].split(b"\0", count)[:count]

    def _numbers(self, tag: int) -> tuple[int, ...]:
        kind, offset, count = self.lists.get(tag, (0, 0, 0))
        if kind != _INT32 or count > _MAX_NAMES or offset + 4 * count > len(self.store):
            return ()
        return struct.unpack_from(f">{count}I", self.store, offset)


def read_header(blob: bytes) -> Header | None:
    """None when it is damaged."""
    if not 8 <= len(blob) <= MAX_HEADER:
        return None
    count, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * count
    if not 0 < count <= _MAX_ENTRIES or start + size > len(blob):
        return None
    store = blob[start : start + size]
    texts: dict[int, str] = {}
    lists: dict[int, tuple[int, int, int]] = {}
    epoch = 0
    for tag, kind, offset, items in _ENTRY.iter_unpack(blob[8:start]):
        if tag in _TEXTS and kind in (_STRING, _I18N_STRING):
            texts[tag] = _text(store, offset)
        elif tag in _LISTS:
            lists[tag] = (kind, offset, items)
        elif tag == _EPOCH and kind == _INT32 and offset + 4 <= len(store):
            (epoch,) = struct.unpack_from(">I", store, offset)
    if texts.get(_NAME) == _KEY:
        return Header(None, store, lists)
    package = rpm_package(
        texts.get(_NAME, ""), texts.get(_VERSION, ""), texts.get(_RELEASE, ""), epoch=epoch,
        architecture=texts.get(_ARCH, ""), source=texts.get(_SOURCE, ""), module=texts.get(_MODULE, ""),
        license=texts.get(_LICENSE, ""), vendor=texts.get(_VENDOR, ""),
    )  # fmt: skip
    return None if package is None else Header(package, store, lists)


def parse_header(blob: bytes) -> Package | None:
    """The package that a header describes; None when it is damaged, or the key of a signer."""
    header = read_header(blob)
    return None if header is None else header.package


def rpm_package(
    name: str,
    version: str,
    release: str,
    *,
    epoch: int,
    architecture: str,
    source: str,
    module: str = "",
    license: str = "",
    vendor: str = "",
) -> Package | None:
    """A package from rpm's fields; `source` is its source package's file name. None without name or version."""
    if not name or not version:
        return None
    before = f"{epoch}:" if epoch else ""
    full = before + (f"{version}-{release}" if release else version)
    # <name>-<version>-<release>.src.rpm, which states no epoch: the source has the epoch of the binary
    built_from, *parts = _SOURCE_NAME.sub("", source).rsplit("-", 2)
    source_version = before + "-".join(parts) if len(parts) == 2 else full
    return Package(
        name, full, architecture, built_from or name, kind="rpm", module=module,
        source_version="" if source_version == full else source_version,
        license=expression_of(license), supplier=clean_supplier(vendor),
    )  # fmt: skip


def _text(store: bytes, offset: int) -> str:
    end = store.find(b"\0", offset, offset + MAX_FIELD + 1)
    return store[offset:end].decode(errors="replace") if end >= 0 else ""
