"""Root file systems of disks as folders and back, against what mke2fs, e2fsck and sfdisk make of the same."""

from __future__ import annotations

import os
import random
import stat
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.artifacts.disk_root import open_root, repack, unpack
from imagesmith.artifacts.disks import DiskError, DiskStore
from imagesmith.artifacts.ext4 import ROOT_INODE, Ext4, UnreadableFileSystem
from imagesmith.artifacts.partitions import read_partitions
from imagesmith.processes import Cancellation, Cancelled
from testing.disks import FIRST, SIZE, disk_of

pytestmark = pytest.mark.tool


def fill(folder: Path) -> None:
    """Files of every kind that a system has."""
    chance = random.Random(7)
    for name in ("etc", "usr/bin", "var/log/journal", "many", "empty"):
        (folder / name).mkdir(parents=True)
    for index in range(600):
        (folder / "many" / f"a rather long name of file number {index}").write_bytes(b"x" * chance.randint(0, 6000))
    (folder / "usr/bin/tool").write_bytes(chance.randbytes(3_000_000))
    (folder / "usr/bin/tool").chmod(0o4755)
    os.setxattr(
        folder / "usr/bin/tool", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000")
    )
    (folder / "usr/bin/again").hardlink_to(folder / "usr/bin/tool")
    with (folder / "sparse").open("wb") as file:
        file.seek(20_000_000)
        file.write(b"end")
    (folder / "short").symlink_to("../etc")
    (folder / "long").symlink_to("l" * 300)
    (folder / "\udcff not utf-8").write_bytes(b"1")
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "many minors", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    os.mkfifo(folder / "pipe", 0o640)
    os.chown(folder / "sparse", 1234, 70000)
    os.utime(folder / "short", ns=(10**18, 10**18), follow_symlinks=False)
    os.setxattr(folder / "etc", "user.long", b"v" * 700)
    nobody = 2**32 - 1
    entries = ((1, nobody), (4, nobody), (8, 4), (16, nobody), (32, nobody))
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, id) for tag, id in entries)
    os.setxattr(folder / "var/log/journal", "system.posix_acl_access", access)


def described(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that must be the same: kind, mode, owner, size, time in seconds, link, device, attributes, bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for place in sorted(folder.rglob("*")):
        if place.name == "lost+found":
            continue
        status = place.lstat()
        link = place.is_symlink()
        regular = stat.S_ISREG(status.st_mode)
        attributes = {} if link or not (regular or place.is_dir()) else {
            name: os.getxattr(place, name) for name in os.listxattr(place)
        }  # fmt: skip
        found[str(place.relative_to(folder))] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_size if regular else 0, int(status.st_mtime),
            str(place.readlink()) if link else "", status.st_rdev, status.st_nlink if regular else 0, attributes,
            place.read_bytes() if regular else b"",
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    fill(folder)
    return folder


@pytest.fixture(scope="module")
def disk(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk_of(tree, tmp_path_factory.mktemp("disk"))


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-I", "128"), ("-O", "^64bit,^metadata_csum")])
def test_a_root_is_unpacked_as_it_was(tree: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every file has its bytes, owner, mode, time, links, device and attributes, whatever the form of ext4."""
    out = tmp_path / "out"
    out.mkdir()
    with open_root(disk_of(tree, tmp_path, options=options)) as root:
        count = unpack(root, out)
        assert (root.system.label, root.partition.number) == ("root", 2)
    assert described(out) == described(tree)
    assert count == len(list(out.rglob("*")))


def test_a_folder_becomes_the_root_of_a_like_disk(disk: Path, tmp_path: Path) -> None:
    """What lies beside the root stays, UUID and label too; the file system is sound and larger when asked for."""
    out, new = tmp_path / "out", tmp_path / "new.raw"
    out.mkdir()
    with open_root(disk) as root:
        unpack(root, out)
        (out / "etc/new").write_text("made without a boot\n")
        repack(root, out, new, size=2 * SIZE)
        uuid = root.system.uuid
    assert new.read_bytes()[2048 * 512 :][:11] == b"boot loader" and new.stat().st_size == 2 * SIZE
    subprocess.run(["e2fsck", "-fn", f"{new}?offset={FIRST}"], check=True, capture_output=True)
    subprocess.run(["sfdisk", "--verify", str(new)], check=True, capture_output=True)
    stored = DiskStore(tmp_path / "disks").take(new)
    again = tmp_path / "again"
    again.mkdir()
    with open_root(stored.path) as root:
        assert (root.system.uuid, root.system.label) == (uuid, "root")
        assert root.partition.size > SIZE and [item.number for item in read_partitions(root.disk)] == [2, 1]
        unpack(root, again)
    assert described(again) == described(out)


def test_only_what_is_wanted_is_read(disk: Path, tmp_path: Path) -> None:
    """Files and folders that the caller does not want are left out."""
    with open_root(disk) as root:
        assert unpack(root, tmp_path, wanted=lambda path, folder: path in ("usr", "usr/bin", "usr/bin/tool")) == 3
        assert root.system.find("usr/bin/tool") is not None and root.system.find("usr/none/x") is None


def test_a_disk_is_read_below_a_long_temporary_folder(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path longer than the address of a socket may be changes nothing."""
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with open_root(disk) as root:
        assert root.system.find("usr/bin/tool") is not None
    assert list(folder.iterdir()) == []


def test_unpacking_can_be_cancelled(disk: Path, tmp_path: Path) -> None:
    """A cancelled copy ends at the next file."""
    stopped = Cancellation()
    stopped.cancel()
    with open_root(disk) as root, pytest.raises(Cancelled):
        unpack(root, tmp_path, cancellation=stopped)


def test_a_system_that_was_not_unmounted_is_refused(tree: Path, tmp_path: Path) -> None:
    """Its journal may hold what the tables do not: the reason says that it has to boot first."""
    disk_of(tree, tmp_path)
    with (tmp_path / "made.raw").open("r+b") as file:
        file.seek(FIRST + 1024 + 0x60)
        (features,) = struct.unpack("<I", file.read(4))
        file.seek(FIRST + 1024 + 0x60)
        file.write(struct.pack("<I", features | 4))
    disk = tmp_path / "dirty.qcow2"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(tmp_path / "made.raw"), str(disk)], check=True
    )
    with pytest.raises(DiskError, match="partition 2: the file system was not unmounted"), open_root(disk):
        pass


def test_what_is_no_disk_of_a_system_is_refused(tmp_path: Path) -> None:
    """No table, no partition, and a file that is not there are told apart."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "blank"), "64M"], check=True)
    with pytest.raises(DiskError, match="no partition table"), open_root(tmp_path / "blank"):
        pass
    with pytest.raises(DiskError, match=r"none cannot be read: .*No such file"), open_root(tmp_path / "none"):
        pass


class Bytes:
    """A partition in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file system of two megabytes."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "tree/etc").mkdir(parents=True)
    (folder / "tree/etc/file").write_bytes(b"y" * 9000)
    image = folder / "image"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(folder / "tree"), str(image), "2m"], check=True)
    return image.read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2**21 - 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=40))
def test_damage_is_refused_or_read_in_bounds(small: bytes, damage: list[tuple[int, bytes]]) -> None:
    """Whatever the bytes are, reading ends, with Unreadable if it must, and nothing else."""
    data = bytearray(small)
    for place, value in damage:
        # the tables are at the front: there damage matters
        at = place % 200_000
        data[at : at + len(value)] = value
    waiting, seen = [ROOT_INODE], 0
    try:
        system = Ext4(Bytes(bytes(data)), 0, len(data))
        while waiting and seen < 100:
            seen += 1
            inode = system.inode(waiting.pop())
            system.attributes(inode)
            if stat.S_ISDIR(inode.mode):
                waiting += [number for _, number in system.entries(inode)][:100]
            elif stat.S_ISREG(inode.mode):
                for _ in system.content(inode):
                    pass
    except UnreadableFileSystem:
        pass
