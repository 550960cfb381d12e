"""Packages of Python and Node.js, found by a bounded walk over the root.

    **/NAME.dist-info/METADATA       headers Name and Version, their names in any case
    **/NAME.egg-info/PKG-INFO        the same; an .egg-info may also be that file itself
    **/NAME.egg/EGG-INFO/PKG-INFO    a package in a folder of its own
    **/node_modules/NAME/package.json, **/node_modules/@SCOPE/NAME/package.json

Missing or unreadable headers are taken from the name of the folder, NAME-VERSION.dist-info. A package with two
descriptions in one folder, dist-info and egg-info, is one package. Symbolic links are never followed, so a walk
sees each folder once. Packages bundled by other programs under other names, or inside archives, are not found.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imagesmith.artifacts.rootfs import Root, RootError
from imagesmith.inspection.language_metadata import npm_license, npm_supplier, python_license, python_supplier
from imagesmith.inspection.packages import MAX_FIELD, MAX_PACKAGES, Package
from imagesmith.inspection.suppliers import clean_supplier

MAX_FOLDERS = 500_000
"""Most folders of a walk."""

_MAX_METADATA = 1024 * 1024
"""Bytes that are read of a Python package's description; its headers come first."""
_MAX_JSON = 16 * 1024 * 1024
_SKIPPED = frozenset({"proc", "sys", "dev", "run"})
"""Folders of the root that hold no files of the image."""


_TOLD = 10
"""Most unreadable files that are named individually."""
_SEPARATORS = re.compile(r"[-_.]+")
_NAMED = re.compile(
    r"(?:^|/)(?P<name>[A-Za-z0-9][A-Za-z0-9._]{0,200})-(?P<version>[0-9][A-Za-z0-9.!+_]{0,100})(?:-py[0-9.]+)?"
    r"\.(?:dist-info|egg-info|egg)(?=/|\Z)",
    re.IGNORECASE,
)
"""The form of a Python package's folder name: it supplies name and version that the description lacks."""


@dataclass(frozen=True)
class LanguagePackages:
    """The packages found, and a sentence when the walk was not completed."""

    packages: frozenset[Package]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """A folder that may hold the metadata of packages."""

    path: str
    in_modules: bool
    """Whether its parent is a node_modules folder, or a scope in one."""


def read_language_packages(root: Root, check: Callable[[], None]) -> LanguagePackages:
    """The Python and npm packages of a mounted root. `check` is called often and may raise."""
    found: dict[tuple[str, ...], Package] = {}
    walk = _Walk(root, check)
    problems: list[str] = []
    for kind, folder, path in walk.metadata_files():
        try:
            package = _python(root, path) if kind == "pypi" else _npm(root, path)
        except RootError as error:
            problems.append(f"{_printable(path)} cannot be read: {error.strerror}")
            continue
        if package is None:
            continue
        name = _SEPARATORS.sub("-", package.name).lower() if kind == "pypi" else path
        found.setdefault((kind, folder, name, package.version), package)
        if len(found) >= MAX_PACKAGES:
            return LanguagePackages(
                frozenset(found.values()), (f"the image has more than {MAX_PACKAGES} packages of Python and npm",)
            )
    more = (f"and {len(problems) - _TOLD} more files",) if len(problems) > _TOLD else ()
    return LanguagePackages(frozenset(found.values()), (*problems[:_TOLD], *more, *walk.problems))


class _Walk:
    """One walk over the folders of a root."""

    def __init__(self, root: Root, check: Callable[[], None]) -> None:
        self._root = root
        self._check = check
        self.problems: tuple[str, ...] = ()

    def metadata_files(self) -> Iterator[tuple[str, str, str]]:
        """(kind, folder of the packages, path) of every file that describes a package; dist-info comes first."""
        waiting = [_Folder(".", False)]
        seen = 0
        while waiting:
            if seen >= MAX_FOLDERS:
                self.problems = (f"the image has more than {MAX_FOLDERS} folders, not all were searched",)
                return
            self._check()
            folder = waiting.pop()
            seen += 1
            folders, files = _entries(self._root, folder.path)
            prefix = "" if folder.path == "." else f"{folder.path}/"
            if folder.in_modules and "package.json" in files:
                yield "npm", folder.path, f"{prefix}package.json"
            for name in folders:
                ending = name.rpartition(".")[2].lower()
                path = f"{prefix}{name}"
                if ending == "dist-info":
                    yield "pypi", folder.path, f"{path}/METADATA"
                elif ending == "egg-info":
                    yield "pypi", folder.path, f"{path}/PKG-INFO"
                elif not (folder.path == "." and name in _SKIPPED):
                    if ending == "egg":
                        yield "pypi", folder.path, f"{path}/EGG-INFO/PKG-INFO"
                    waiting.append(_Folder(path, _holds_modules(folder, name)))
            for name in files:
                if name.lower().endswith(".egg-info"):
                    yield "pypi", folder.path, f"{prefix}{name}"


def _holds_modules(parent: _Folder, name: str) -> bool:
    last = parent.path.rpartition("/")[2]
    return last == "node_modules" or (parent.in_modules and last.startswith("@") and not name.startswith("@"))


def _entries(root: Root, path: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the regular files in a folder, sorted; empty when it is unreadable."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with root.folder(path) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
    except OSError:
        return [], []
    folders.sort()
    files.sort()
    return folders, files


def _python(root: Root, path: str) -> Package | None:
    head = _head(root, path)
    if not head.strip():
        return None
    values: dict[str, list[str]] = {}
    for line in head.decode("utf-8-sig", errors="replace").lstrip().split("\n"):
        if not line.strip():
            # The headers end here; any text may follow.
            break
        name, colon, value = line.partition(":")
        if colon:
            values.setdefault(name.strip().lower(), []).append(value.strip())
    named = _NAMED.search(path)
    fallback = named.groupdict() if named else {}
    name, version = (values.get(key, [""])[0] or fallback.get(key, "") for key in ("name", "version"))
    return _package("pypi", name, version, path, license=python_license(values), supplier=python_supplier(values))


def _npm(root: Root, path: str) -> Package | None:
    try:
        document = json.loads(root.read(path, limit=_MAX_JSON))
    except RootError:
        raise
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        return None
    return _package("npm", name, version, path, license=npm_license(document), supplier=npm_supplier(document))


def _package(kind: str, name: str, version: str, path: str, *, license: str, supplier: str) -> Package | None:
    if not name or not version or max(len(name), len(version)) > MAX_FIELD:
        return None
    if not all(text.isprintable() for text in (name, version)):
        return None
    return Package(
        name, version, "", name, kind=kind, location=_printable(path), license=license,
        supplier=clean_supplier(supplier),
    )  # fmt: skip


def _printable(path: str) -> str:
    """A path of any bytes as text that can be stored and printed."""
    return path if path.isprintable() else ascii(path)[1:-1]


def _head(root: Root, path: str) -> bytes:
    """The beginning of a file; empty for anything but a regular file."""
    try:
        with os.fdopen(root.open_regular(path), "rb") as file:
            return file.read(_MAX_METADATA)
    except OSError:
        return b""
