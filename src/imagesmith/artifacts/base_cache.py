"""Managed bases are made once and kept until they are too old.

    bases/<name>.lock           one maker at a time; who waits then finds the base
    bases/<name>-<key>.json     when it was made and as which digest

The key is a digest over everything the base is made from, so a change of any of it makes a new one. It is made
again when it is older than the age limit, because a golden image is about fresh packages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from imagesmith.artifacts.locks import file_lock
from imagesmith.artifacts.mirrors import Mirrors
from imagesmith.managed.bases import ManagedBase
from imagesmith.processes import Cancellation
from imagesmith.values.names import canonical_json, sha256_hex

Made = TypeVar("Made")

OnLine = Callable[[str], None]


def base_key(base: ManagedBase, mirrors: Mirrors, recipe: str) -> str:
    """Identity of a base; `recipe` names the way it is made and changes with it."""
    return sha256_hex(canonical_json([asdict(base), asdict(mirrors), recipe]))[:24]


@dataclass(frozen=True)
class BaseCache:
    """The stamps of one folder."""

    folder: Path
    max_age_seconds: float
    now: Callable[[], float]

    def obtain(
        self,
        base: ManagedBase,
        key: str,
        *,
        recall: Callable[[str], Made | None],
        make: Callable[[], tuple[Made, str]],
        on_line: OnLine,
        cancellation: Cancellation | None = None,
    ) -> Made:
        """The base that `recall` finds by its digest when it is fresh, else what `make` gives, with its digest."""
        stamp = self.folder / f"{base.name}-{key}.json"
        with file_lock(self.folder / f"{base.name}.lock", cancellation=cancellation):
            known = _read(stamp)
            if known is not None and self.now() - known["made"] <= self.max_age_seconds:
                found = recall(known["digest"])
                if found is not None:
                    hours = (self.now() - known["made"]) / 3600
                    on_line(f"base {base.name} is at hand (made {hours:.1f} hours ago)")
                    return found
            made, digest = make()
            draft = stamp.with_suffix(".tmp")
            draft.write_text(json.dumps({"made": self.now(), "digest": digest}))
            draft.replace(stamp)
        return made


def _read(stamp: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(stamp.read_text())
        return {"made": float(value["made"]), "digest": str(value["digest"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
