"""The managed components: documents of this package, owned by `aws` in ARNs.

    components/<name>_<version>.yml      name is the slug of the ARN, version is M.m.p

What a document says of itself (its description) is read from it; everything else stands in its file name.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

from imagesmith.documents.nodes import MapNode, ScalarNode
from imagesmith.documents.yaml import load_yaml
from imagesmith.values.version import Version


class CatalogError(ValueError):
    """A document of this package is not what its name promises."""


@dataclass(frozen=True)
class ManagedComponent:
    """One version of a managed component. `platform` is `Linux` or `Windows`."""

    name: str
    version: str
    platform: str
    description: str
    text: str


@functools.cache
def managed_components() -> tuple[ManagedComponent, ...]:
    """Every managed component, by name and version, oldest version first."""
    folder = resources.files("imagesmith.managed") / "components"
    found = [
        _component(entry.name.removesuffix(".yml"), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".yml")
    ]
    return tuple(sorted(found, key=lambda item: (item.name, Version.parse(item.version))))


def managed_component(name: str) -> ManagedComponent:
    """The newest version of a name. Raises LookupError."""
    found = [item for item in managed_components() if item.name == name]
    if not found:
        raise LookupError(f"there is no managed component '{name}'")
    return found[-1]


def _component(stem: str, text: str) -> ManagedComponent:
    name, _, version = stem.rpartition("_")
    root = load_yaml(text).root
    description = root.get("description") if isinstance(root, MapNode) else None
    if not name or not isinstance(description, ScalarNode):
        raise CatalogError(f"managed component '{stem}': needs name_version.yml and a description")
    platform = "Windows" if name.endswith("-windows") else "Linux"
    return ManagedComponent(name, version, platform, description.text, text)
