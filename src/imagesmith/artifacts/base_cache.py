"""Caches managed bases until they are too old.

    bases/<name>.lock           one maker at a time; a waiting process then finds the base
    bases/<name>-<key>.json     when it was made, and its digest

The key is a digest over all inputs of the base, so a change of any input makes a new base. A base is also made
again when it is older than the age limit, because a golden image needs fresh packages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from imagesmith.artifacts.mirrors import Mirrors
from imagesmith.files import READABLE, write_atomically
from imagesmith.locks import file_lock
from imagesmith.managed.bases import ManagedBase
from imagesmith.processes import Cancellation
from imagesmith.values.names import canonical_json, sha256_hex

Made = TypeVar("Made")

OnLine = Callable[[str], None]


def base_key(base: ManagedBase, mirrors: Mirrors, recipe: str) -> str:
    """Identity of a base; `recipe` names the procedure that makes it and changes with it."""
    return sha256_hex(canonical_json([asdict(base), asdict(mirrors), recipe]))[:24]


@dataclass(frozen=True)
class _Stamp:
    """When a base was made, in seconds since the epoch, and its digest."""

    made: float
    digest: str


@dataclass(frozen=True)
class BaseCache:
    """The stamps of one folder."""

    folder: Path
    max_age_seconds: float
    now: Callable[[], float]

    def obtain(
        self,
        name: str,
        key: str,
        *,
        recall: Callable[[str], Made | None],
        make: Callable[[], tuple[Made, str]],
        on_line: OnLine,
        cancellation: Cancellation | None = None,
    ) -> Made:
        """The base of a name that `recall` finds by its digest if it is fresh, else what `make` returns."""
        stamp = self.folder / f"{name}-{key}.json"
        with file_lock(self.folder / f"{name}.lock", cancellation=cancellation):
            known = _read(stamp)
            if known is not None and self.now() - known.made <= self.max_age_seconds:
                found = recall(known.digest)
                if found is not None:
                    hours = (self.now() - known.made) / 3600
                    on_line(f"base {name} is available (made {hours:.1f} hours ago)")
                    return found
            made, digest = make()
            write_atomically(stamp, json.dumps(asdict(_Stamp(self.now(), digest))), mode=READABLE)
        return made


def _read(stamp: Path) -> _Stamp | None:
    try:
        value = json.loads(stamp.read_text())
        return _Stamp(float(value["made"]), str(value["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
