"""The complete inventory of an image: its operating system and every package found in its root."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.apk import read_apk
from imagesmith.inspection.chisel import CHISEL, read_chisel
from imagesmith.inspection.completeness import RELEASES, what_is_missing
from imagesmith.inspection.copyright_files import FOLDER as DOCUMENTS
from imagesmith.inspection.dpkg import read_dpkg
from imagesmith.inspection.files import RootFiles
from imagesmith.inspection.languages import read_language_packages
from imagesmith.inspection.os_release import read_os_release
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.rpm import RPM_FOLDERS, read_rpm
from imagesmith.processes import Cancellation


@dataclass(frozen=True)
class Inventory:
    """The contents of an image; `packages` sorted by kind and name.

    `problems` names unreadable parts: with any, the packages are incomplete.
    """

    system: OsRelease
    packages: tuple[Package, ...]
    problems: tuple[str, ...] = ()

    def rows(self) -> list[Mapping[str, str]]:
        """Plain data for the store."""
        return [package.to_json() for package in self.packages]

    @classmethod
    def of_rows(cls, system: OsRelease, rows: Sequence[Mapping[str, str]]) -> Inventory:
        """The inventory that was stored as rows, without its problems."""
        return cls(system, tuple(Package(**row) for row in rows))

    def to_json(self) -> dict[str, Any]:
        """Plain data for a cache. Caches of earlier versions have no `system`."""
        return {
            "rows": self.rows(), "osVersion": self.system.os_version, "words": self.summary(),
            "system": self.system.to_json(),
        }  # fmt: skip

    def summary(self) -> str:
        """`92 deb, 3 pypi packages on Debian 12`, and the unreadable parts."""
        kinds = Counter(package.kind for package in self.packages)
        counts = ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds))
        found = f"{counts or 'no'} packages on {self.system.os_version or 'an unknown system'}"
        return "; ".join((found, *(f"warning: {problem}" for problem in self.problems)))


def take_inventory(root: Root, cancellation: Cancellation) -> Inventory:
    """Read a mounted root from outside, without running its programs. Raises Cancelled."""
    files = RootFiles(root, cancellation)
    system = read_os_release(files)
    languages = read_language_packages(root, cancellation.check)
    wanted = frozenset(package.location for package in languages.packages)
    readings = [read(files, wanted) for read in (read_dpkg, read_chisel, read_rpm, read_apk)]
    packages = {package for reading in readings for package in reading.packages}
    owners = {path: owner for reading in readings for path, owner in reading.owners.items()}
    names = {package.name for package in packages}
    problems = [problem for reading in readings for problem in reading.problems]
    if not problems:
        missing = what_is_missing(files, system, packages)
        problems += [missing] if missing else []
    # An owner outside the inventory has no fixes.
    owned = (
        replace(package, owner=owner) if (owner := owners.get(package.location, "")) in names else package
        for package in languages.packages
    )
    return Inventory(
        system,
        tuple(sorted((*packages, *owned), key=lambda item: item.order)),
        (*problems, *languages.problems),
    )


DATABASES = (
    *RELEASES, "var/lib/dpkg/status", "var/lib/dpkg/status.d/", "var/lib/dpkg/info/", "var/lib/dpkg/updates/",
    "lib/apk/db/", "usr/lib/apk/db/", "etc/apk/world", *(f"{folder}/" for folder in RPM_FOLDERS),
    "var/lib/rpmmanifest/", CHISEL,
)  # fmt: skip
"""Paths that describe the system and its packages; a final slash marks a folder."""
_LINK_DEPTH = DOCUMENTS.count("/") + 1
_LANGUAGES = (".dist-info/METADATA", ".egg-info", "/PKG-INFO", "/package.json")


def is_read(path: str, folder: bool) -> bool:
    """Whether an inventory reads a path of a root (without its leading `/`); copies can omit other paths."""
    if folder:
        return path not in ("proc", "sys", "dev", "run")
    if path.startswith("var/lib/dpkg/info/"):
        return path.endswith(".list")
    if path.startswith(f"{DOCUMENTS}/"):
        # the folder of a package is often a link to that of another
        return path.endswith("/copyright") or path.count("/") == _LINK_DEPTH
    return path.startswith(DATABASES) or path.endswith(_LANGUAGES) or path.count("/") == 0
