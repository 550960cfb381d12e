"""Disks that tests write: raw ones, and one with a partition table and a root file system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FIRST = 4096 * 512


SIZE = 64 * 1024**2


TABLE = (
    "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"
    "start=4096, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n"
)


def disk_of(folder: Path, place: Path, *, options: tuple[str, ...] = ()) -> Path:
    """A qcow2 disk with a GPT whose second partition holds a folder, made by mke2fs."""
    raw = place / "made.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["sfdisk", "-q", str(raw)], input=TABLE.encode(), check=True)
    with raw.open("r+b") as file:
        file.seek(2048 * 512)
        file.write(b"boot loader")
    blocks = (SIZE - FIRST) // 1024 - 1024
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "2", *options, "-E", f"offset={FIRST}",
         "-d", str(folder), str(raw), f"{blocks}k"],
        check=True,
    )  # fmt: skip
    disk = place / "made.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(disk)], check=True)
    return disk


MIB = 1024 * 1024


def raw_disk(path: Path, *, mebibytes: int = 8) -> bytes:
    """A raw disk with a boot signature and some content."""
    data = bytearray(mebibytes * MIB)
    data[510:512] = b"\x55\xaa"
    data[MIB : MIB + 4096] = os.urandom(4096)
    path.write_bytes(data)
    return bytes(data)
