"""The managed components and workflows: documents of this package, owned by `aws` in ARNs.

    components/<name>_<version>.yml           name is the slug of the ARN, version is M.m.p
    workflows/<type>/<name>_<version>.yml     type is build, test or distribution, as in the ARN

    components/*.toml                         rows of tables that become documents: managed/generated.py

The description is read from the document; everything else is in its file name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, TypeVar

from imagesmith.documents.nodes import MapNode, ScalarNode
from imagesmith.documents.yaml import load_yaml
from imagesmith.managed.generated import GENERATED_VERSION, generated_components
from imagesmith.values.version import Version

_Item = TypeVar("_Item")
WORKFLOW_FAMILIES: Final = ("build", "test", "distribution")


class CatalogError(ValueError):
    """A document of this package does not match its file name."""


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
    found = [_component(stem, text) for stem, text in _documents("components")]
    found += [
        _component(f"{name}_{GENERATED_VERSION}", text, platform=platform)
        for name, platform, text in generated_components()
    ]
    return tuple(sorted(found, key=lambda item: (item.name, Version.parse(item.version))))


def managed_component(name: str) -> ManagedComponent:
    """The newest version of a name. Raises LookupError."""
    found = [item for item in managed_components() if item.name == name]
    return _newest(found, f"managed component '{name}'")


@dataclass(frozen=True)
class ManagedWorkflow:
    """One version of a managed workflow. `family` is `build`, `test` or `distribution`."""

    family: str
    name: str
    version: str
    description: str
    text: str


@functools.cache
def managed_workflows() -> tuple[ManagedWorkflow, ...]:
    """Every managed workflow, by type, name and version, oldest version first."""
    found = [
        _workflow(family, stem, text)
        for family in WORKFLOW_FAMILIES
        for stem, text in _documents(f"workflows/{family}")
    ]
    return tuple(sorted(found, key=lambda item: (item.family, item.name, Version.parse(item.version))))


def managed_workflow(family: str, name: str) -> ManagedWorkflow:
    """The newest version of a name. Raises LookupError."""
    found = [item for item in managed_workflows() if (item.family, item.name) == (family, name)]
    return _newest(found, f"managed workflow '{family}/{name}'")


def _documents(path: str) -> Iterator[tuple[str, str]]:
    """Stem and text of each document in a folder of this package."""
    for entry in resources.files("imagesmith.managed").joinpath(path).iterdir():
        if entry.name.endswith(".yml"):
            yield entry.name.removesuffix(".yml"), entry.read_text(encoding="utf-8")


def _newest(found: Sequence[_Item], what: str) -> _Item:
    if not found:
        raise LookupError(f"there is no {what}")
    return found[-1]


def _component(stem: str, text: str, *, platform: str = "Linux") -> ManagedComponent:
    name, version, description = _describe(f"managed component '{stem}'", stem, text)
    return ManagedComponent(name=name, version=version, platform=platform, description=description, text=text)


def _workflow(family: str, stem: str, text: str) -> ManagedWorkflow:
    name, version, description = _describe(f"managed workflow '{family}/{stem}'", stem, text)
    return ManagedWorkflow(family=family, name=name, version=version, description=description, text=text)


def _describe(subject: str, stem: str, text: str) -> tuple[str, str, str]:
    """Name and version from the name of the file, and the description from the document."""
    name, _, version = stem.rpartition("_")
    root = load_yaml(text).root
    description = root.get("description") if isinstance(root, MapNode) else None
    if not name or not isinstance(description, ScalarNode):
        raise CatalogError(f"{subject}: needs name_version.yml and a description")
    return name, version, description.text
