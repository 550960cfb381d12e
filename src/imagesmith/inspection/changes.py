"""The difference between two package inventories. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PackageChanges:
    """Names sorted; `changed` holds (old version, new version)."""

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, tuple[str, str]]
    same: int

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


def compare_packages(before: Mapping[str, str], after: Mapping[str, str]) -> PackageChanges:
    """Compare name -> version of two images."""
    both = sorted(before.keys() & after.keys())
    return PackageChanges(
        added={name: after[name] for name in sorted(after.keys() - before.keys())},
        removed={name: before[name] for name in sorted(before.keys() - after.keys())},
        changed={name: (before[name], after[name]) for name in both if before[name] != after[name]},
        same=sum(1 for name in both if before[name] == after[name]),
    )
