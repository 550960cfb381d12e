"""Packages of Alpine's apk, read without apk.

lib/apk/db/installed    (usr/lib/apk/db/installed since apk 3) paragraphs of `letter:value` lines: P name,
                        V version, A architecture, o origin, L licence, m maintainer, p what it provides, F folder,
                        R file in it; checksums and others follow
etc/apk/world           the names that somebody asked for: apk keeps each of them installed or provided
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from imagesmith.inspection.files import Files, Reading, UnreadableDatabase, damaged_words, lines_of
from imagesmith.inspection.licenses import expression_of
from imagesmith.inspection.packages import MAX_FIELD, MAX_FILE, MAX_PACKAGES, Package
from imagesmith.inspection.suppliers import clean_supplier

_PATHS = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_WORLD = "etc/apk/world"
_MAX_WORLD = 1024 * 1024
_FIELDS = frozenset({b"P", b"V", b"A", b"o", b"L", b"m"})
_STATEMENTS = (b"L", b"m")
_CONSTRAINT = re.compile(r"[<>=~@]")


class _Database:
    """The packages read so far."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.packages: set[Package] = set()
        self.names: set[str] = set()
        """Names of the packages, and those that they provide."""
        self.owners: dict[str, str] = {}

    def read(self, files: Files, path: str) -> int:
        """Read one file; returns the number of paragraphs that are not packages. Raises Unreadable."""
        fields: dict[bytes, str] = {}
        held: list[str] = []
        folder = ""
        damaged, empty = 0, True
        for line in lines_of(files, path, most=MAX_FILE):
            letter, colon, value = line.rstrip(b"\r\n").partition(b":")
            if not letter and not colon:
                damaged += not empty and not self._add(fields, held)
                fields, held, folder, empty = {}, [], "", True
                continue
            empty = False
            if letter in _FIELDS:
                fields.setdefault(letter, value.decode(errors="replace").strip())
            elif letter == b"p":
                self.names.update(_names(value.decode(errors="replace")))
            elif self.wanted and letter == b"F":
                folder = value.decode(errors="surrogateescape").strip()
            elif self.wanted and letter == b"R":
                name = value.decode(errors="surrogateescape").strip()
                whole = f"{folder}/{name}" if folder else name
                # In a merged root the package's lib/x is usr/lib/x.
                held += [item for item in (whole, f"usr/{whole}") if item in self.wanted]
        return damaged + (not empty and not self._add(fields, held))

    def _add(self, fields: Mapping[bytes, str], held: list[str]) -> bool:
        name, version = fields.get(b"P", ""), fields.get(b"V", "")
        lengths = [len(value) for letter, value in fields.items() if letter not in _STATEMENTS]
        if not name or not version or max(lengths, default=0) > MAX_FIELD:
            return False
        self.packages.add(
            Package(
                name,
                version,
                fields.get(b"A", ""),
                fields.get(b"o") or name,
                kind="apk",
                license=expression_of(fields.get(b"L", "")),
                supplier=clean_supplier(fields.get(b"m", "")),
            )
        )
        self.names.add(name)
        for item in held:
            self.owners.setdefault(item, name)
        if len(self.packages) >= MAX_PACKAGES:
            raise UnreadableDatabase(f"apk's database has more than {MAX_PACKAGES} packages")
        return True


def read_apk(files: Files, wanted: frozenset[str] = frozenset()) -> Reading:
    """The installed packages; see Reading."""
    database = _Database(wanted)
    problems: list[str] = []
    for path in _PATHS:
        # With a merged /usr both are one file, and its packages are found twice and kept once.
        try:
            found = damaged_words(path, database.read(files, path))
        except UnreadableDatabase as error:
            found = (str(error),)
        problems += found
    if database.packages and not problems:
        problems += _lost(files, database)
    return Reading(frozenset(database.packages), database.owners, tuple(problems))


def _lost(files: Files, database: _Database) -> Iterator[str]:
    """A problem when the database lacks what apk keeps installed: it was cut, or belongs to another root."""
    try:
        asked = [
            name
            for line in lines_of(files, _WORLD, most=_MAX_WORLD)
            for name in _names(line.decode(errors="replace"))
        ]
    except UnreadableDatabase as error:
        yield str(error)
        return
    lost = sorted(set(asked) - database.names)
    if lost:
        yield f"apk's database has no entry for {len(lost)} names of {_WORLD}, such as {lost[0][:80]}"


def _names(text: str) -> Iterator[str]:
    """The names in a list of names with versions and sources; `!name` is one that must not be installed."""
    for word in text.split():
        if not word.startswith("!"):
            yield _CONSTRAINT.split(word, maxsplit=1)[0]
