"""What makes a build reproducible: decided when its run starts, and the same in every rebuild. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

ON: Final = "true"
OFF: Final = "false"
_SECONDS: Final = re.compile(r"0|[1-9][0-9]{0,10}")


@dataclass(frozen=True)
class PlannedReproducible:
    """`epoch`: SOURCE_DATE_EPOCH in seconds; nothing of the image is later. `parent`: the digest of the parent that
    a rebuild starts on; empty: what the parent of the plan stands for."""

    epoch: int
    parent: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedReproducible:
        return cls(**data)


def is_wish(text: str) -> bool:
    """Whether a text can be the value of the tag: `true`, `false`, or the seconds of SOURCE_DATE_EPOCH."""
    return text in (ON, OFF) or _SECONDS.fullmatch(text) is not None


def planned(wish: str, *, recipe_created: datetime, by_default: bool) -> PlannedReproducible | None:
    """What a tag asks for; empty: the default counts. Without seconds of its own, SOURCE_DATE_EPOCH is the time at
    which the recipe was created: it never changes, and no build of the recipe is earlier."""
    if wish == OFF or (not wish and not by_default):
        return None
    return PlannedReproducible(int(wish) if wish not in ("", ON) else int(recipe_created.timestamp()))
