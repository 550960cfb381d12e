"""Files that no layer can carry: a name that begins with `.wh.` marks a deleted file there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from imagesmith.instances.upper_folder import upper_folder

_WHITEOUT: Final = ".wh."
_MOST_NAMES: Final = 5


def reserved_names(root: Path) -> list[str]:
    """The first such files in a mounted root, as paths inside it. Only files written since the mount are examined,
    or all files where there is no overlay."""
    top = str(upper_folder(root) or root)
    found: list[str] = []
    for folder, folders, files in os.walk(top):
        names = [name for name in (*folders, *files) if name.startswith(_WHITEOUT)]
        found += ["/" + os.path.relpath(os.path.join(folder, name), top) for name in names]  # noqa: PTH118
        if len(found) >= _MOST_NAMES:
            break
    return sorted(found)[:_MOST_NAMES]
