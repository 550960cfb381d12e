"""Packages of dpkg, read without dpkg.

var/lib/dpkg/status      stanzas of every package dpkg knows, each with its state
var/lib/dpkg/updates/NNNN  stanzas that replace those in status: the work of a dpkg that was killed
var/lib/dpkg/status.d/*  one stanza a file in images without dpkg; such a stanza may have no Status at all
var/lib/dpkg/info/NAME.list, NAME:ARCH.list, status.d/NAME.md5sums    the files that a package brought
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from imagesmith.inspection.copyright_files import CopyrightFiles
from imagesmith.inspection.files import Files, Reading, UnreadableDatabase, content_of, damaged_words, lines_of
from imagesmith.inspection.packages import MAX_FIELD, MAX_FILE, MAX_PACKAGES, Package
from imagesmith.inspection.suppliers import clean_supplier

_MAX_FILES = 100_000
_MAX_LIST = 16 * 1024 * 1024
_STATUS = "var/lib/dpkg/status"
_UPDATES = "var/lib/dpkg/updates"
_MAX_UPDATES = 1000
_STATUS_FOLDER = "var/lib/dpkg/status.d"
_INFO = "var/lib/dpkg/info"
_FIELDS = frozenset({b"package", b"status", b"version", b"architecture", b"source", b"maintainer"})
_INITIALS = frozenset({b"P", b"p", b"S", b"s", b"V", b"v", b"A", b"a", b"M", b"m"})
_BLANK = frozenset({b"\n", b"\r", b" ", b"\t"})
_LANGUAGE_FILES = (b"-info", b"/EGG-INFO/", b"/package.json")
"""Paths that show files of Python or Node.js in the list of a package."""

_THERE = frozenset(
    {"installed", "unpacked", "half-configured", "half-installed", "triggers-awaited", "triggers-pending"}
)
"""States of a package with some of its files present: half-installed software can be attacked, too."""

_GONE = frozenset({"not-installed", "config-files"})


class _Status:
    """The packages read so far."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._copyrights = CopyrightFiles(files)
        self.packages: set[Package] = set()
        self.known: set[str] = set()
        """Names of every stanza, whatever its state."""
        self.problems: list[str] = []

    def read(self, path: str, *, stated: bool, later: bool = False) -> str:
        """Read the stanzas of a file; returns the name of the last one. `stated`: each must state its status.
        `later`: each replaces an earlier stanza of the same package."""
        damaged, name = 0, ""
        try:
            for fields in _stanzas(lines_of(self._files, path, most=MAX_FILE)):
                name = fields.get("package", "")
                self.known.add(name)
                if later:
                    same = name, fields.get("architecture", "")
                    self.packages = {item for item in self.packages if (item.name, item.architecture) != same}
                damaged += not self._add(name, fields, stated=stated)
                if len(self.packages) >= MAX_PACKAGES:
                    raise UnreadableDatabase(f"{path} has more than {MAX_PACKAGES} packages")
        except UnreadableDatabase as error:
            self.problems.append(str(error))
        self.problems += damaged_words(path, damaged)
        return name

    def _add(self, name: str, fields: Mapping[str, str], *, stated: bool) -> bool:
        """Add a stanza; returns False when it is invalid."""
        state = fields.get("status", "" if stated else "installed").lower().split()
        # The last word, not the ending: `half-installed` and `not-installed` end with it as well.
        if not name or (state and state[-1] in _GONE):
            return bool(name)
        supplier = clean_supplier(fields.get("maintainer", ""))
        fields = {key: value for key, value in fields.items() if key != "maintainer"}
        version = fields.get("version", "")
        if not version and (not state or state[-1] == "half-installed"):
            # Only the name is known, or the first unpacking ended before there was a version.
            return True
        if (state and state[-1] not in _THERE) or not version or max(map(len, fields.values())) > MAX_FIELD:
            return False
        source, _, built_from = fields.get("source", "").partition("(")
        built_from = built_from.rstrip(") ")
        stated_version = "" if built_from == version else built_from
        architecture = fields.get("architecture", "")
        self.packages.add(
            Package(
                name,
                version,
                architecture,
                source.strip() or name,
                source_version=stated_version,
                license=self._copyrights.license_of(name),
                supplier=supplier,
            )
        )
        return True


def read_dpkg(files: Files, wanted: frozenset[str] = frozenset()) -> Reading:
    """The present packages; see Reading."""
    status = _Status(files)
    status.read(_STATUS, stated=True)
    for name in files.names(_UPDATES)[:_MAX_UPDATES]:
        if name.isdecimal():
            status.read(f"{_UPDATES}/{name}", stated=True, later=True)
    lists: list[tuple[str, str]] = []
    singles = files.names(_STATUS_FOLDER)[:_MAX_FILES]
    for name in singles:
        if name.endswith(".md5sums") or "/" in name or "\0" in name or name in (".", ".."):
            continue
        lists.append((status.read(f"{_STATUS_FOLDER}/{name}", stated=False), f"{_STATUS_FOLDER}/{name}.md5sums"))
    strangers = []
    for name in files.names(_INFO)[:_MAX_FILES]:
        if name.endswith(".list"):
            package = name.removesuffix(".list").partition(":")[0]
            lists.append((package, f"{_INFO}/{name}"))
            if package not in status.known:
                strangers.append(package)
    sums = {name.removesuffix(".md5sums") for name in singles if name.endswith(".md5sums")}
    if unnamed := sorted(sums.difference(singles)):
        status.problems.append(
            f"{_STATUS_FOLDER} has the files of {len(unnamed)} packages without an entry, such as {unnamed[0]}"
        )
    if strangers:
        # The status was truncated, replaced or deleted: it does not match the installed packages.
        status.problems.append(
            f"{_STATUS} has no entry for {len(strangers)} packages with files in {_INFO}, such as {strangers[0]}"
        )
    owners = _owners(files, lists, wanted) if wanted else {}
    return Reading(frozenset(status.packages), owners, tuple(status.problems))


def _stanzas(lines: Iterable[bytes]) -> Iterator[Mapping[str, str]]:
    """The fields of interest of each paragraph, names in lower case; the first of a repeated field counts.

    Only a line feed ends a line: other line ends of Unicode are part of a value.
    """
    fields: dict[str, str] = {}
    for line in lines:
        first = line[:1]
        if first in _INITIALS:
            name, colon, value = line.partition(b":")
            key = name.lower()
            if colon and key in _FIELDS:
                fields.setdefault(key.decode(), value.decode(errors="replace").strip())
        elif first in _BLANK and not line.strip():
            if fields:
                yield fields
            fields = {}
    if fields:
        yield fields


def _owners(files: Files, lists: Iterable[tuple[str, str]], wanted: frozenset[str]) -> Mapping[str, str]:
    """The package that installed each wanted file; unreadable lists own nothing."""
    asked: dict[bytes, str] = {}
    for path in wanted:
        data = path.encode(errors="surrogateescape")
        # md5sums name files without the slash; a list has /lib/x for /usr/lib/x of a merged root.
        asked |= {data: path, b"/" + data: path}
        if path.startswith("usr/"):
            asked[data.removeprefix(b"usr")] = path
    owners: dict[str, str] = {}
    for package, path in lists:
        if not package:
            continue
        data = content_of(files, path, most=_MAX_LIST)
        if any(mark in data for mark in _LANGUAGE_FILES):
            names = data.split(b"\n")
            if path.endswith(".md5sums"):
                names = [line.partition(b"  ")[2] for line in names]
            for found in asked.keys() & set(names):
                owners.setdefault(asked[found], package)
    return owners
