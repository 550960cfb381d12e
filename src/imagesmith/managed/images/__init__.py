"""Names of the service's managed images as data: `stock.toml` beside this module, by operating system."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

STOCK_VERSION = "1.0.0"
"""The version under which a stock image is listed; every other version of it resolves as well."""


@dataclass(frozen=True)
class StockImage:
    """A name that templates use, and the system that it stands for in the service. It has no content here."""

    name: str
    kind: Literal["container", "machine"]
    platform: str
    """`Linux`, `Windows` or `macOS`."""
    os_version: str


@cache
def stock_images() -> tuple[StockImage, ...]:
    """Every stock image, by name."""
    table = tomllib.loads(resources.files(__name__).joinpath("stock.toml").read_text(encoding="utf-8"))
    found = [
        StockImage(name=name, kind=kind, platform=entry["platform"], os_version=os_version)
        for os_version, entry in table.items()
        for kind in ("container", "machine")
        for name in entry.get(kind, ())
    ]
    return tuple(sorted(found, key=lambda image: image.name))
