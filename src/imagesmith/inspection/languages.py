"""Packages of Python and Node.js, found by a bounded walk over the root.

    **/NAME.dist-info/METADATA       Name and Version headers
    **/NAME.egg-info/PKG-INFO        the same; an .egg-info may also be that file itself
    **/node_modules/NAME/package.json, **/node_modules/@SCOPE/NAME/package.json

Symbolic links are never followed, so a walk sees each folder once. What other programs bundle under other names,
and what is packed into archives, is not found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.packages import MAX_FIELD, MAX_PACKAGES, Package

MAX_FOLDERS = 200_000
"""Folders that a walk looks into at most."""

_MAX_DEPTH = 48
_MAX_METADATA = 1024 * 1024
_SKIPPED = frozenset({"proc", "sys", "dev", "run"})
"""Folders of the root that hold no files of the image."""


@dataclass(frozen=True)
class _Folder:
    path: str
    depth: int
    in_modules: bool
    """Whether its parent is a node_modules folder, or a scope in one."""


def read_language_packages(root: Root) -> tuple[Package, ...]:
    """The Python and npm packages of a mounted root, sorted."""
    found: set[Package] = set()
    for kind, path in _metadata_files(root):
        package = _python(root, path) if kind == "pypi" else _npm(root, path)
        if package is not None:
            found.add(package)
        if len(found) >= MAX_PACKAGES:
            break
    return tuple(sorted(found, key=lambda item: item.order))


def _metadata_files(root: Root) -> Iterator[tuple[str, str]]:
    """(kind, path) of every file that describes a package."""
    waiting = [_Folder(".", 0, False)]
    seen = 0
    while waiting and seen < MAX_FOLDERS:
        folder = waiting.pop()
        seen += 1
        folders, files = _entries(root, folder.path)
        if folder.in_modules and "package.json" in files:
            yield "npm", f"{folder.path}/package.json"
        for name in files:
            if name.endswith(".egg-info"):
                yield "pypi", f"{folder.path}/{name}"
        for name in folders:
            path = name if folder.path == "." else f"{folder.path}/{name}"
            if name.endswith(".dist-info"):
                yield "pypi", f"{path}/METADATA"
            elif name.endswith(".egg-info"):
                yield "pypi", f"{path}/PKG-INFO"
            elif folder.depth < _MAX_DEPTH and not (folder.depth == 0 and name in _SKIPPED):
                waiting.append(_Folder(path, folder.depth + 1, _holds_modules(folder, name)))


def _holds_modules(parent: _Folder, name: str) -> bool:
    last = parent.path.rpartition("/")[2]
    return last == "node_modules" or (parent.in_modules and last.startswith("@") and not name.startswith("@"))


def _entries(root: Root, path: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the regular files in a folder, each sorted; nothing when it cannot be read."""
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
    return sorted(folders), sorted(files)


def _python(root: Root, path: str) -> Package | None:
    values: dict[str, str] = {}
    for line in _read(root, path).decode(errors="replace").split("\n"):
        if not line.strip():
            # The headers end here; a description that follows may hold anything.
            break
        name, colon, value = line.partition(":")
        if colon and name in ("Name", "Version"):
            values.setdefault(name, value.strip())
    return _package("pypi", values.get("Name", ""), values.get("Version", ""), path)


def _npm(root: Root, path: str) -> Package | None:
    try:
        document = json.loads(_read(root, path))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    name, version = document.get("name"), document.get("version")
    return _package("npm", name, version, path) if isinstance(name, str) and isinstance(version, str) else None


def _package(kind: str, name: str, version: str, path: str) -> Package | None:
    if not name or not version or max(len(name), len(version)) > MAX_FIELD:
        return None
    if not all(text.isprintable() for text in (name, version, path)):
        return None
    return Package(name, version, "", name, kind=kind, location=path)


def _read(root: Root, path: str) -> bytes:
    try:
        return root.read(path, limit=_MAX_METADATA)
    except OSError:
        return b""
