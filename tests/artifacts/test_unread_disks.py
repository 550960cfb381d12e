"""Disks whose root cannot be read, or is not all of the system: refused with the reason, never read as empty."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imagesmith.artifacts.disk_root import open_root
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.mount_table import Mount, elsewhere, of_packages, other_root
from testing.disks import FIRST, SIZE, disk_of

pytestmark = pytest.mark.tool

UUID = "11111111-2222-3333-4444-555555555555"
LINUX, LVM, RAID, LUKS = (
    "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "E6D6D379-F507-44C2-A23C-238F2A3DF928",
    "A19D880F-05FC-4D3B-A006-743F0F84911E", "CA7D7CCB-63ED-4C53-861C-1742536059CC",
)  # fmt: skip


def disk_with(place: Path, table: str, *writes: tuple[int, bytes]) -> Path:
    """A disk with a partition table and some bytes."""
    raw = place / "made.raw"
    with raw.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["sfdisk", "-q", str(raw)], input=table.encode(), check=True)
    with raw.open("r+b") as file:
        for at, data in writes:
            file.seek(at)
            file.write(data)
    disk = place / "made.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    return disk


def refusal(disk: Path) -> str:
    with pytest.raises(DiskError) as failed, open_root(disk):
        pass
    return str(failed.value)


@pytest.mark.parametrize(
    ("kind", "at", "mark", "words"),
    [
        (LINUX, 0, b"XFSB", "partition 1: XFS: only ext4 is read"),
        (LINUX, 0x10040, b"_BHRfS_M", "partition 1: btrfs: only ext4 is read"),
        (LINUX, 0, b"LUKS\xba\xbe", "partition 1: LUKS: only ext4 is read"),
        (LINUX, 512, b"LABELONE", "partition 1: LVM: only ext4 is read"),
        (LINUX, 0, b"", "partition 1: no file system that is known: only ext4 is read"),
        (LVM, 512, b"LABELONE", "partition 1: LVM, which is not read"),
        (RAID, 0, b"", "partition 1: RAID, which is not read"),
        (LUKS, 0, b"LUKS\xba\xbe", "partition 1: LUKS, which is not read"),
    ],
)
def test_what_a_partition_holds_is_named(tmp_path: Path, kind: str, at: int, mark: bytes, words: str) -> None:
    """By its type, or by the mark of what is in it."""
    said = refusal(disk_with(tmp_path, f"label: gpt\nstart=4096, type={kind}\n", (FIRST + at, mark)))
    assert said == f"the disk has no root file system that can be read: {words}"


def test_logical_partitions_and_lvm_of_an_old_table_are_named(tmp_path: Path) -> None:
    """An MBR has both in other types."""
    table = "label: dos\nstart=4096, size=8192, type=8e\nstart=16384, type=5\nstart=18432, size=2048, type=83\n"
    said = refusal(disk_with(tmp_path, table))
    assert "partition 1: LVM, which is not read" in said
    assert "partition 2: an extended partition, which is not read" in said


def system(place: Path, fstab: str) -> Path:
    tree = place / "tree"
    for name in ("etc", "usr"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (tree / "etc/fstab").write_text(fstab)
    return disk_of(tree, place, options=("-U", UUID))


@pytest.mark.parametrize(
    "root",
    ["UUID=99999999-2222-3333-4444-555555555555", "LABEL=real", "/dev/vda3", "/dev/mapper/vg-root", "/dev/vg/root"],
)
def test_a_rescue_system_is_not_taken_for_the_root(tmp_path: Path, root: str) -> None:
    """Its own mount table says that the root is another file system."""
    assert f"partition 2 contains a system whose root is {root}" in refusal(
        system(tmp_path, f"{root} / ext4 defaults 0 1\n")
    )


@pytest.mark.parametrize(
    "root",
    [
        f"UUID={UUID}",
        f'UUID="{UUID.upper()}"',
        "LABEL=root",
        "/dev/sda2",
        "PARTUUID=a-b",
        f"/dev/disk/by-uuid/{UUID}",
    ],
)
def test_the_root_of_its_own_table_is_read(tmp_path: Path, root: str) -> None:
    """However it is named, also where only the kernel could tell."""
    more = "LABEL=ESP /boot/efi vfat umask=0077 0 1\ntmpfs /tmp tmpfs\n# /dev/sdb1 /usr ext4\n"
    more += "/dev/sdb1 /usr ext4 noauto\n"
    with open_root(system(tmp_path, f"{root} / ext4 defaults 0 1\n{more}")) as found:
        found.require_packages()
        found.require_all()


@pytest.mark.parametrize("point", ["/usr", "/var", "/var/lib", "/var/lib/dpkg", "/usr/lib/sysimage"])
def test_packages_on_another_partition_are_missed(tmp_path: Path, point: str) -> None:
    """A system with a /var of its own has no packages on its root: that is no system without packages."""
    with open_root(system(tmp_path, f"LABEL=root / ext4\nUUID=a-b {point} xfs defaults 0 2\n")) as found:
        with pytest.raises(
            DiskError, match=rf"/etc/fstab has {point} \(UUID=a-b\) on another partition: packages there"
        ):
            found.require_packages()
        with pytest.raises(DiskError, match="build it with a boot"):
            found.require_all()


@pytest.mark.parametrize("point", ["/home", "/boot", "/var/log", "/srv/data"])
def test_parts_without_packages_are_missed_by_changes_only(tmp_path: Path, point: str) -> None:
    """An inventory needs the root alone; a build without a boot would write below the mount point."""
    with open_root(system(tmp_path, f"LABEL=root / ext4\n/dev/sdb1 {point} ext4 defaults 0 2\n")) as found:
        found.require_packages()
        with pytest.raises(DiskError, match=rf"/etc/fstab has {point} \(/dev/sdb1\)"):
            found.require_all()


def test_a_damaged_folder_is_no_empty_one(tmp_path: Path) -> None:
    """Zeros where the entries of the root folder are: the reader says damage, and finds no missing file."""
    disk_of(_plain(tmp_path), tmp_path)
    raw = tmp_path / "made.raw"
    data = bytearray(raw.read_bytes())
    at = data.index(b"os-release\0".rstrip(b"\0"))
    block = at - (at - FIRST) % 1024
    data[block : block + 1024] = bytes(1024)
    raw.write_bytes(data)
    disk = tmp_path / "damaged.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    assert "partition 2: folder 12 of the file system is damaged" in refusal(disk)


def _plain(place: Path) -> Path:
    tree = place / "tree"
    for name in ("etc", "usr"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=debian\n")
    return tree


def test_the_rules_of_a_table() -> None:
    """What is said about the root, the firmware's partition and the rest."""
    mounts = (
        Mount("/dev/sda1", "/", "ext4"),
        Mount("LABEL=EFI", "/boot/efi", "vfat"),
        Mount("/dev/sdb1", "/var", "xfs"),
    )
    assert other_root(mounts, uuid=UUID, label="root", number=1) == ""
    assert other_root(mounts, uuid=UUID, label="root", number=2) == "/dev/sda1"
    assert other_root((), uuid=UUID, label="", number=1) == ""
    assert (
        [mount.point for mount in elsewhere(mounts)] == ["/var"] == [mount.point for mount in of_packages(mounts)]
    )
