"""Inventories of container images that were read before, by the layers that they were read from.

    folder/<key>.json      the system and the packages; the key covers the layers and the version of imagesmith

The same layers are the same files, so an unchanged image is neither mounted nor read again. An inventory with
problems is not kept: their cause may be gone at the next reading. A damaged file is none.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

from imagesmith import __version__
from imagesmith.files import write_atomically
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.values.names import canonical_json, sha256_hex

_MOST_KEPT: Final = 64
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of one inventory: larger ones are read each time."""


class KeptInventories:
    """The inventories of one folder; safe for several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, diff_ids: Sequence[str], read: Callable[[], Inventory]) -> Inventory:
        """The inventory of a root of these layers, lowest first; `read` reads it. Raises what `read` raises, and
        OSError if it cannot be kept."""
        covered = [__version__, *(field.name for field in fields(Package)), *diff_ids]
        path = self._folder / f"{sha256_hex(canonical_json(covered))[:40]}.json"
        known = _decoded(path)
        if known is not None:
            return known
        inventory = read()
        if not inventory.problems:
            self._keep(path, inventory)
        return inventory

    def _keep(self, path: Path, inventory: Inventory) -> None:
        text = json.dumps(asdict(inventory), separators=(",", ":"))
        if len(text) > _MOST_BYTES:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(path, text)
        kept = sorted(self._folder.glob("*.json"), key=_used)
        for old in kept[:-_MOST_KEPT]:
            old.unlink(missing_ok=True)


def _decoded(path: Path) -> Inventory | None:
    """A kept inventory, which counts as used now; None if there is none or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        value = json.loads(path.read_bytes())
        inventory = Inventory.of_rows(OsRelease(**value["system"]), value["packages"])
        os.utime(path)
        return inventory
    return None


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
