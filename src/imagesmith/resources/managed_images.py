"""The managed images of this server: bases of this version, names of stock templates, and those of the settings.

name                             means
[managed_images.NAME]            what the settings say
a base of this version           itself
a stock name                     nothing: recipes accept it, and a run on it fails and names the setting
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from imagesmith.managed.bases import ManagedBase, managed_bases
from imagesmith.managed.images import STOCK_VERSION, StockImage, stock_images
from imagesmith.recipes.kinds import KindName
from imagesmith.recipes.plan import ManagedSource
from imagesmith.settings import ManagedImage, SettingsError


@dataclass(frozen=True, kw_only=True)
class KnownImage:
    """A managed image with the properties that recipes are checked against, and what it means here."""

    name: str
    kind: KindName
    version: str = STOCK_VERSION
    platform: str
    os_version: str
    source: ManagedSource


def managed_images(mapping: Mapping[str, ManagedImage]) -> tuple[KnownImage, ...]:
    """All managed images, by name. Raises SettingsError for a mapping that cannot be right."""
    found: dict[str, KnownImage] = {image.name: _of_stock(image) for image in stock_images()}
    found |= {base.name: _of_base(base.name, base) for base in managed_bases()}
    found |= {name: _of_settings(name, image, found.get(name)) for name, image in mapping.items()}
    return tuple(found[name] for name in sorted(found))


def _of_stock(image: StockImage) -> KnownImage:
    return KnownImage(
        name=image.name,
        kind=image.kind,
        platform=image.platform,
        os_version=image.os_version,
        source=ManagedSource("none"),
    )


def _of_base(name: str, base: ManagedBase) -> KnownImage:
    return KnownImage(
        name=name,
        kind=base.kind,
        version=base.version,
        platform=base.platform,
        os_version=base.os_version,
        source=ManagedSource("base", base.name),
    )


def _of_settings(name: str, image: ManagedImage, known: KnownImage | None) -> KnownImage:
    """An image of the settings: what they do not say is that of the base, else that of the known name."""
    made = _known_base(name, image.base) if image.base else _outside(name, image, known)
    if known is not None and known.kind != made.kind:
        raise SettingsError(
            f"managed_images.{name} is an image for a {known.kind}, and {made.source} is one for a {made.kind}"
        )
    return replace(made, platform=image.platform or made.platform, os_version=image.os_version or made.os_version)


def _known_base(name: str, wanted: str) -> KnownImage:
    for base in managed_bases():
        if base.name == wanted:
            return _of_base(name, base)
    names = ", ".join(base.name for base in managed_bases())
    raise SettingsError(f"managed_images.{name}: there is no base '{wanted}'; known bases: {names}")


def _outside(name: str, image: ManagedImage, known: KnownImage | None) -> KnownImage:
    """An image of a registry, or a disk."""
    source = (
        ManagedSource("registry", image.registry)
        if image.registry
        else ManagedSource("disk", image.disk, image.checksum)
    )
    return KnownImage(
        name=name,
        kind="container" if image.registry else "machine",
        platform=known.platform if known else "Linux",
        os_version=known.os_version if known else "",
        source=source,
    )
