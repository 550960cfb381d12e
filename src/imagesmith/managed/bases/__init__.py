"""Managed base images as documents: one TOML file each, beside this module."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class BaseFile:
    """A file that a base carries besides its packages."""

    path: str
    """Below the root, without a leading slash."""
    mode: int
    text: str


@dataclass(frozen=True)
class ManagedBase:
    """A Debian base that is bootstrapped from a package mirror."""

    name: str
    version: str
    description: str
    platform: str
    os_version: str
    architecture: str
    suite: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    files: tuple[BaseFile, ...] = ()


@cache
def managed_bases() -> tuple[ManagedBase, ...]:
    """Every base this version ships, by name."""
    found = []
    for entry in resources.files(__name__).iterdir():
        if entry.name.endswith(".toml"):
            table = tomllib.loads(entry.read_text(encoding="utf-8"))
            for key in ("components", "packages"):
                table[key] = tuple(table[key])
            table["files"] = tuple(
                BaseFile(path, **content) for path, content in sorted(table.get("files", {}).items())
            )
            found.append(ManagedBase(**table))
    return tuple(sorted(found, key=lambda base: base.name))


def managed_base(name: str) -> ManagedBase | None:
    return next((base for base in managed_bases() if base.name == name), None)
