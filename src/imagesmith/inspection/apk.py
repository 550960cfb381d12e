"""Packages of Alpine's apk, read without apk.

lib/apk/db/installed    (or usr/lib/apk/db/installed) paragraphs of `letter:value` lines: P name, V version,
                        A architecture, o origin; files and checksums follow under other letters
"""

from __future__ import annotations

from imagesmith.inspection.packages import MAX_FIELD, MAX_FILE, MAX_PACKAGES, OpenFile, Package

_PATHS = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_FIELDS = frozenset({b"P", b"V", b"A", b"o"})


def read_apk(open_file: OpenFile) -> tuple[Package, ...]:
    """The installed packages, sorted; empty when the root has no apk database."""
    data = next((found for path in _PATHS if (found := open_file(path)) is not None), b"")
    packages: set[Package] = set()
    for paragraph in data[:MAX_FILE].split(b"\n\n"):
        fields: dict[bytes, str] = {}
        for line in paragraph.split(b"\n"):
            letter, colon, value = line.partition(b":")
            if colon and letter in _FIELDS:
                fields.setdefault(letter, value.decode(errors="replace").strip())
        name, version = fields.get(b"P", ""), fields.get(b"V", "")
        if name and version and all(len(value) <= MAX_FIELD for value in fields.values()):
            packages.add(Package(name, version, fields.get(b"A", ""), fields.get(b"o") or name, kind="apk"))
        if len(packages) >= MAX_PACKAGES:
            break
    return tuple(sorted(packages, key=lambda item: item.order))
