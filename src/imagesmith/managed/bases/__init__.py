"""Managed base images as documents: a TOML file for each kind, beside this module; its releases share the rest."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

_PATTERN = re.compile(r"(?:/[\w.*?\[\]!+-]+){2,}")


@dataclass(frozen=True)
class BaseFile:
    """A file of a base besides its packages."""

    path: str
    """Below the root, without a leading slash."""
    mode: int
    text: str


@dataclass(frozen=True)
class ManagedBase:
    """A Debian base that is bootstrapped from a package mirror: a layer for containers, or a disk for machines."""

    name: str
    version: str
    description: str
    platform: str
    os_version: str
    architecture: str
    suite: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    """Path patterns that dpkg does not unpack, here and in builds on the base."""
    files: tuple[BaseFile, ...] = ()
    kind: Literal["container", "machine"] = "container"


@cache
def managed_bases() -> tuple[ManagedBase, ...]:
    """Every base this version ships, by name."""
    found = []
    for entry in resources.files(__name__).iterdir():
        if entry.name.endswith(".toml"):
            table = tomllib.loads(entry.read_text(encoding="utf-8"))
            for key in ("components", "packages", "excluded"):
                table[key] = tuple(table.get(key, ()))
            table["files"] = tuple(
                BaseFile(path, **content) for path, content in sorted(table.get("files", {}).items())
            )
            found += [_checked(ManagedBase(**table, **release)) for release in table.pop("releases")]
    return tuple(sorted(found, key=lambda base: base.name))


def _checked(base: ManagedBase) -> ManagedBase:
    """Patterns become words of a script when a base is made: only paths with wildcards are allowed."""
    for pattern in base.excluded:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"managed base {base.name}: {pattern!r} is not a path pattern")
    return base


def managed_base(name: str, kind: Literal["container", "machine"] = "container") -> ManagedBase | None:
    return next((base for base in managed_bases() if (base.name, base.kind) == (name, kind)), None)
