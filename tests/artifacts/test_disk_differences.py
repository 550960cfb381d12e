"""What differs between two disks: files, not how their file systems store them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from imagesmith.artifacts.disk_differences import disk_differences
from testing.disks import disk_of

pytestmark = pytest.mark.tool


def tree(folder: Path, *, device: int = 3, last: bytes = b"b") -> Path:
    """A system of a file with zeros in it and behind it, and of a device node."""
    for name in ("etc", "usr"):
        (folder / name).mkdir(parents=True)
    (folder / "file").write_bytes(b"a" * 1024 + bytes(6 * 1024) + last)
    os.truncate(folder / "file", 100_000)
    os.mknod(folder / "node", stat.S_IFCHR | 0o600, os.makedev(1, device))
    for path in (*folder.iterdir(), folder):
        os.utime(path, (1000, 1000))
    return folder


def differences(tmp_path: Path, one: Path, two: Path, block_sizes: tuple[int, int]) -> list[str]:
    """All lines but those of what mke2fs adds."""
    disks = []
    for name, folder, size in zip("ab", (one, two), block_sizes, strict=True):
        (tmp_path / name).mkdir()
        disks.append(disk_of(folder, tmp_path / name, options=("-b", str(size))))
    return [line for line in disk_differences(disks[0], disks[1]) if not line.startswith(("'/lost+found'", "'/':"))]


def test_the_same_bytes_in_other_extents_are_the_same(tmp_path: Path) -> None:
    """With large blocks, zeros are stored that are holes with small ones."""
    folder = tree(tmp_path / "tree")
    assert [line for line in differences(tmp_path, folder, folder, (1024, 4096)) if "same files" not in line] == []


def test_other_bytes_and_other_devices_are_named(tmp_path: Path) -> None:
    """Each by its name; the digest is that of the whole file."""
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two", device=5, last=b"c")
    content, node = differences(tmp_path, one, two, (4096, 4096))
    assert content.startswith("'/file': sha256 ") and node == "'/node': device (1, 3), (1, 5)"
