"""A database as Trivy reads it, written here: its own comes from a registry, and has other advisories than ours.

Trivy's database is a file of bbolt (https://github.com/etcd-io/bbolt): pages of 4 KiB with a header (id, flags,
count, overflow), two meta pages, a free list, and leaves of sorted keys. Here every bucket is one leaf.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

_PAGE = 4096
_LEAF, _META, _FREE = 0x02, 0x04, 0x10
_BUCKET = 1
Tree = Mapping[str, "Tree | bytes"]


def write_trivy_database(folder: Path, release: str, advisories: Iterable[tuple[str, str, str]]) -> None:
    """A cache folder with advisories about one release, such as `debian 12`: (vulnerability, package, fixed)."""
    by_package: dict[str, dict[str, bytes]] = {}
    known: dict[str, bytes] = {}
    for name, package, fixed in advisories:
        by_package.setdefault(package, {})[name] = json.dumps({"FixedVersion": fixed}).encode()
        known[name] = json.dumps({"Title": name, "Severity": "HIGH"}).encode()
    tree: Tree = {
        "data-source": {release: json.dumps({"ID": "debian", "Name": "test", "URL": "https://example"}).encode()},
        release: by_package,
        "vulnerability": known,
    }
    database = folder / "db"
    database.mkdir(parents=True)
    (database / "trivy.db").write_bytes(_file(tree))
    far = "2036-01-01T00:00:00Z"
    (database / "metadata.json").write_text(
        json.dumps({"Version": 2, "NextUpdate": far, "UpdatedAt": far, "DownloadedAt": far})
    )


def _file(tree: Tree) -> bytes:
    pages: list[bytes] = []
    root = _store(tree, pages)
    free = 3 + sum(len(page) for page in pages) // _PAGE
    body = b"".join(pages) + _page(free, _FREE, 0, b"")
    return b"".join(_meta(number, root, free, free + 1) for number in (0, 1)) + _page(2, _FREE, 0, b"") + body


def _store(tree: Tree, pages: list[bytes]) -> int:
    """Append the leaf of a bucket, after those of its own buckets; returns its number."""
    entries: list[tuple[bytes, bytes, int]] = []
    for key, value in tree.items():
        if isinstance(value, bytes):
            entries.append((key.encode(), value, 0))
        elif len(value) < 20 and all(isinstance(item, bytes) for item in value.values()):
            # a small bucket stands in its parent, as a page without a number
            inner = _leaf([(name.encode(), item, 0) for name, item in value.items() if isinstance(item, bytes)])
            head = struct.pack("<QHHI", 0, _LEAF, len(value), 0)
            entries.append((key.encode(), struct.pack("<QQ", 0, 0) + head + inner, _BUCKET))
        else:
            entries.append((key.encode(), struct.pack("<QQ", _store(value, pages), 0), _BUCKET))
    number = 3 + sum(len(page) for page in pages) // _PAGE
    pages.append(_page(number, _LEAF, len(entries), _leaf(entries)))
    return number


def _leaf(entries: Iterable[tuple[bytes, bytes, int]]) -> bytes:
    ordered = sorted(entries)
    elements, data = b"", b""
    for index, (key, value, flags) in enumerate(ordered):
        distance = 16 * (len(ordered) - index) + len(data)
        elements += struct.pack("<IIII", flags, distance, len(key), len(value))
        data += key + value
    return elements + data


def _page(number: int, flags: int, count: int, content: bytes) -> bytes:
    whole = -(-(16 + len(content)) // _PAGE)
    return (struct.pack("<QHHI", number, flags, count, whole - 1) + content).ljust(whole * _PAGE, b"\0")


def _meta(number: int, root: int, free: int, end: int) -> bytes:
    content = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, _PAGE, 0, root, 0, free, end, number)
    checksum = 0xCBF29CE484222325
    for byte in content:
        checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
    return _page(number, _META, 0, content + struct.pack("<Q", checksum))
