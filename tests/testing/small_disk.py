"""A file system of a few megabytes, to fill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk_at(place: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount an empty file system of this size; it is gone afterwards, whatever still holds files of it open."""
    place.mkdir(exist_ok=True)
    size = f"size={megabytes}M,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def fill(place: Path, *, leave: int = 0) -> Path:
    """Write a file until only `leave` bytes are free; gives the file."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (free := free_bytes(place)) > leave:
            file.write(b"\0" * min(1024 * 1024, max(4096, free - leave)))
    return ballast
