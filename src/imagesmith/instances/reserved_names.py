"""Files that no layer can carry: a name that begins with `.wh.` marks a deleted file there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imagesmith.instances.protocol import InstanceError
from imagesmith.trees import TreeNotRead, find_names

_WHITEOUTS: Final = ".wh.*"
_MOST_NAMES: Final = 5
_MOST_BYTES: Final = 65536


def reserved_names(upper: Path) -> list[str]:
    """The first such files among what was written to a root, as paths inside it. Raises InstanceError."""
    try:
        return find_names(upper, _WHITEOUTS, limit=_MOST_BYTES)[:_MOST_NAMES]
    except TreeNotRead as error:
        raise InstanceError(f"files that no layer can carry cannot be looked for: {error}") from error
