"""Packages of rpm, read without rpm, from any of its databases.

    var/lib/rpm, or usr/lib/sysimage/rpm (Fedora, SUSE), or usr/share/rpm (OSTree):
        rpmdb.sqlite    since rpm 4.16
        Packages.db     ndb, of SUSE
        Packages        Berkeley DB, of RHEL 8, Amazon Linux 2 and older
    var/lib/rpmmanifest/container-manifest-2    a table in images of Azure Linux without rpm

Databases are untrusted. Invalid headers are counted instead of becoming packages; the count is a problem.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO

from imagesmith.inspection.files import Files, Reading, UnreadableDatabase, damaged_words, lines_of, opened
from imagesmith.inspection.packages import MAX_FIELD, MAX_FILE, MAX_PACKAGES, Package
from imagesmith.inspection.rpm.berkeley import berkeley_blobs
from imagesmith.inspection.rpm.header import read_header, rpm_package
from imagesmith.inspection.rpm.ndb import ndb_blobs
from imagesmith.inspection.rpm.sqlite import sqlite_blobs

RPM_FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_Blobs = Callable[[Files, str, BinaryIO], Iterator[bytes]]
_FORMATS: tuple[tuple[str, _Blobs], ...] = (
    ("rpmdb.sqlite", sqlite_blobs), ("Packages.db", ndb_blobs), ("Packages", berkeley_blobs),
)  # fmt: skip
"""Newest first: rpm leaves an older one behind when it could not remove it."""

_MANIFEST = "var/lib/rpmmanifest/container-manifest-2"
_COLUMNS = 10


class _Databases:
    """The packages read so far."""

    def __init__(self, files: Files, wanted: frozenset[str]) -> None:
        self._files = files
        self._asked: dict[bytes, str] = {}
        for path in wanted:
            data = path.encode(errors="surrogateescape")
            self._asked[b"/" + data] = path
            if path.startswith("usr/"):
                # In a merged root the package's /lib/x is /usr/lib/x.
                self._asked[data.removeprefix(b"usr")] = path
        self.packages: set[Package] = set()
        self.owners: dict[str, str] = {}
        self.problems: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def read(self, folder: str) -> None:
        """Read the newest database in a folder that holds packages."""
        for name, blobs in _FORMATS:
            path = f"{folder}/{name}"
            before = len(self.packages)
            damaged = 0
            try:
                with opened(self._files, path) as file:
                    if file is None or not self._is_new(file):
                        continue
                    with closing(blobs(self._files, path, file)) as found:  # type: ignore[type-var]
                        damaged = sum(not self._add(blob) for blob in found)
            except UnreadableDatabase as error:
                self.problems.append(str(error))
            self.problems += damaged_words(path, damaged)
            if len(self.packages) > before:
                return

    def _is_new(self, file: BinaryIO) -> bool:
        """One folder is often a link to another one."""
        try:
            status = os.fstat(file.fileno())
        except OSError:
            return True
        key = (status.st_dev, status.st_ino)
        known = key in self._seen
        self._seen.add(key)
        return not known

    def _add(self, blob: bytes) -> bool:
        """Add a header; returns False when it is invalid."""
        self._files.check()
        header = read_header(blob)
        if header is None:
            return False
        if header.package is not None:
            self.packages.add(header.package)
            if len(self.packages) > MAX_PACKAGES:
                raise UnreadableDatabase(f"rpm's database has more than {MAX_PACKAGES} packages")
            if self._asked:
                for found in self._asked.keys() & set(header.files()):
                    self.owners.setdefault(self._asked[found], header.package.name)
        return True

    def read_manifest(self) -> None:
        """Name, version-release, times, vendor, epoch, size, architecture, epoch number, source; by tabs."""
        damaged = 0
        try:
            for line in lines_of(self._files, _MANIFEST, most=MAX_FILE):
                columns = line.decode(errors="replace").rstrip("\n").split("\t")
                damaged += len(columns) > 1 and not self._add_row(columns)
        except UnreadableDatabase as error:
            self.problems.append(str(error))
        self.problems += damaged_words(_MANIFEST, damaged)

    def _add_row(self, columns: list[str]) -> bool:
        if len(columns) < _COLUMNS or max(map(len, columns)) > MAX_FIELD:
            return False
        version, _, release = columns[1].partition("-")
        epoch = int(columns[8]) if columns[8].isascii() and columns[8].isdigit() else 0
        package = rpm_package(
            columns[0], version, release, epoch=epoch, architecture=columns[7], source=columns[9], vendor=columns[4]
        )
        if package is not None and len(self.packages) < MAX_PACKAGES:
            self.packages.add(package)
        return package is not None


def read_rpm(files: Files, wanted: frozenset[str] = frozenset()) -> Reading:
    """The installed packages; see Reading."""
    databases = _Databases(files, wanted)
    for folder in RPM_FOLDERS:
        databases.read(folder)
    databases.read_manifest()
    return Reading(frozenset(databases.packages), databases.owners, tuple(databases.problems))
