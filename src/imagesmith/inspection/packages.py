"""What an image's root says about itself: the packages of dpkg, and its operating system. Pure over two callables.

    var/lib/dpkg/status      stanzas of every package dpkg knows; installed when Status ends with `installed`
    var/lib/dpkg/status.d/*  one stanza a file in images without dpkg; such a stanza may have no Status at all
    etc/os-release           or usr/lib/os-release

The root is untrusted: sizes and counts are bounded, and bytes that make no sense give fewer packages, never an
error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

OpenFile = Callable[[str], bytes | None]
"""The bytes of a file by its path without a leading slash; None when there is none, or it cannot be had."""

ListFolder = Callable[[str], Sequence[str]]
"""The names in a folder; empty when there is none."""

MAX_FILE = 64 * 1024 * 1024
MAX_PACKAGES = 100_000
MAX_FIELD = 1024
"""Characters of a field that is kept; a package with a longer one is no package."""

_MAX_FILES = 20_000
_MAX_OS_RELEASE = 64 * 1024
_STATUS = "var/lib/dpkg/status"
_STATUS_FOLDER = "var/lib/dpkg/status.d"
_FIELDS = frozenset({"package", "status", "version", "architecture", "source"})
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
_QUOTED = re.compile(r""""((?:[^"\\]|\\.)*)"|'([^']*)'|((?:[^\s"'\\]|\\.)+)""")
_ESCAPED = re.compile(r"\\(.)")
_ESCAPED_IN_QUOTES = re.compile(r"\\([\"$`\\])")


@dataclass(frozen=True)
class Package:
    """One installed package; `source` is the name of the source package it was built from.

    `kind` is a package-url type: deb, rpm, apk, pypi, npm. `source_version` is stated only where it differs from
    `version`, and `location`, a path in the image, only for packages that no system-wide database knows.
    """

    name: str
    version: str
    architecture: str
    source: str
    kind: str = "deb"
    source_version: str = ""
    location: str = ""

    @property
    def order(self) -> tuple[str, ...]:
        """What inventories are sorted by."""
        return (self.kind, self.name, self.version, self.architecture, self.source, self.location)

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class OsRelease:
    """The identity of an operating system; a part that the image does not state is empty."""

    name: str = ""
    version_id: str = ""
    pretty: str = ""
    id: str = ""

    @property
    def os_version(self) -> str:
        """The short form that the API shows as `osVersion`: `Debian 12`, `Amazon Linux 2023`, `Alpine 3.20`."""
        version = self.version_id
        if self.id == "alpine":
            version = ".".join(version.split(".")[:2])
        return f"{self._short_name} {version}".strip() or self.pretty

    @property
    def _short_name(self) -> str:
        known = {"amzn": "Amazon Linux", "rhel": "RHEL", "sles": "SUSE"}.get(self.id)
        if known is not None:
            return known
        words = (self.name or self.id.capitalize()).split()
        return words[0] if words else ""


class RootFiles(Protocol):
    """What `reader_for` needs of a mounted root: reads that stay inside it."""

    def read(self, path: str, *, limit: int = ...) -> bytes: ...

    def list(self, path: str) -> Sequence[str]: ...


def reader_for(root: RootFiles) -> tuple[OpenFile, ListFolder]:
    """The two callables of this module over a mounted root; whatever cannot be read counts as absent."""

    def open_file(path: str) -> bytes | None:
        try:
            return root.read(path, limit=MAX_FILE)
        except OSError:
            return None

    def list_folder(path: str) -> Sequence[str]:
        try:
            return root.list(path)
        except OSError:
            return ()

    return open_file, list_folder


def read_packages(open_file: OpenFile, list_folder: ListFolder) -> tuple[Package, ...]:
    """The installed packages, sorted by name, version and architecture; empty when the root has no dpkg."""
    found: set[Package] = set()
    for path, needs_status in _status_files(list_folder):
        for stanza in _stanzas(open_file(path) or b""):
            package = _package(stanza, needs_status=needs_status)
            if package is not None:
                found.add(package)
            if len(found) >= MAX_PACKAGES:
                break
    return tuple(sorted(found, key=lambda item: (item.name, item.version, item.architecture, item.source)))


def read_os_release(open_file: OpenFile) -> OsRelease:
    """The operating system; all parts empty when the root does not say."""
    data = open_file("etc/os-release")
    if data is None:
        data = open_file("usr/lib/os-release")
    values: dict[str, str] = {}
    for line in (data or b"")[:_MAX_OS_RELEASE].decode(errors="replace").split("\n"):
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is not None and len(match[2]) <= MAX_FIELD:
            values[match[1]] = _unquoted(match[2])
    return OsRelease(
        name=values.get("NAME", ""),
        version_id=values.get("VERSION_ID", ""),
        pretty=values.get("PRETTY_NAME", ""),
        id=values.get("ID", ""),
    )


def _status_files(list_folder: ListFolder) -> Iterator[tuple[str, bool]]:
    """Paths of status files, and whether a stanza there must state its status."""
    yield _STATUS, True
    for name in sorted(list_folder(_STATUS_FOLDER))[:_MAX_FILES]:
        if "/" not in name and "\0" not in name and name not in (".", "..") and not name.endswith(".md5sums"):
            yield f"{_STATUS_FOLDER}/{name}", False


def _stanzas(data: bytes) -> Iterator[Mapping[str, str]]:
    """The fields of interest of each paragraph, names in lower case; the first of a repeated field counts.

    Only a line feed ends a line: other characters that Unicode counts as line ends are part of a value.
    """
    fields: dict[str, str] = {}
    for line in data[:MAX_FILE].split(b"\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
            continue
        name, colon, value = line.partition(b":")
        key = name.decode(errors="replace").lower()
        if colon and key in _FIELDS:
            fields.setdefault(key, value.decode(errors="replace").strip())
    if fields:
        yield fields


def _package(fields: Mapping[str, str], *, needs_status: bool) -> Package | None:
    name = fields.get("package", "")
    if not name or any(len(value) > MAX_FIELD for value in fields.values()):
        return None
    # The last word, not the ending: `half-installed` and `not-installed` end with it as well.
    state = fields.get("status", "" if needs_status else "installed").split()
    if not state or state[-1] != "installed":
        return None
    version = fields.get("version", "")
    source, _, built_from = fields.get("source", "").partition("(")
    built_from = built_from.rstrip(") ")
    return Package(
        name, version, fields.get("architecture", ""), source.strip() or name,
        source_version="" if built_from == version else built_from,
    )  # fmt: skip


def _unquoted(value: str) -> str:
    """A value as a shell reads it: up to the first blank outside quotes; what is badly quoted is cut off."""
    parts: list[str] = []
    position = 0
    while (match := _QUOTED.match(value, position)) is not None:
        double, single, bare = match.groups()
        if double is not None:
            parts.append(_ESCAPED_IN_QUOTES.sub(r"\1", double))
        else:
            parts.append(single if single is not None else _ESCAPED.sub(r"\1", bare))
        position = match.end()
    return "".join(parts)
