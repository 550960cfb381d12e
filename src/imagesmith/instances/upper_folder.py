"""The folder that holds what was written to a mounted container."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TABLE: Final = Path("/proc/self/mountinfo")


def upper_folder(root: Path) -> Path | None:
    """The upper folder of the overlay that is mounted at `root`; None for another file system."""
    place = str(root.resolve())
    options = ""
    with _TABLE.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split()
            if words[4].replace("\\040", " ") == place:
                options = words[-1]  # the last mount at a place is the one that is seen
    names = [option.partition("=")[2] for option in options.split(",") if option.startswith("upperdir=")]
    return Path(names[0]) if names and Path(names[0]).is_dir() else None
