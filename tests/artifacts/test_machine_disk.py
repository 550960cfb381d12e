"""The disk of a machine's base is made in a user namespace: what is in the root reaches nothing of the machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from imagesmith import processes
from imagesmith.artifacts.machine_disk import SECTOR, DiskAssemblyFailed, RootFileSystem, assemble
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.id_maps import FIRST_ID, MOST_RANGES, SIZE
from imagesmith.namespaces.maker import NamespaceMaker

pytestmark = pytest.mark.tool

ROOT = RootFileSystem.of_key("test")
SHOW_IDS = "--checkpoint=1 --checkpoint-action=exec='cat /proc/self/uid_map >/run/0/uid_map'"
"""For tar: the folder of the work is /run/0 in the namespace."""


def write_root(work: Path, links: dict[str, str]) -> None:
    """The tar of a root with boot images, some of them links."""
    sizes = {"boot.img": SECTOR, "core.img": 3 * SECTOR, "boot.efi": 100}
    with tarfile.open(work / "layer.tar", "w") as tar:
        node = tarfile.TarInfo("./dev/null")
        node.type, node.devmajor, node.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(node)
        for name, size in sizes.items():
            info = tarfile.TarInfo(f"./boot/grub/{name}")
            info.mode = 0o755
            if name in links:
                info.type, info.linkname = tarfile.SYMTYPE, links[name]
                tar.addfile(info)
            else:
                info.size = size
                tar.addfile(info, io.BytesIO(b"\1" * size))


def make_disk(work: Path, links: dict[str, str]) -> Path:
    work.mkdir()
    write_root(work, links)
    environment = {**processes.host_environment(), "TAR_OPTIONS": SHOW_IDS}
    with BuildNamespace.of_free_ids(NamespaceMaker()) as namespace:
        return assemble(work, ROOT, environment=environment, namespace=namespace)


def test_the_tools_are_not_root_outside(tmp_path: Path) -> None:
    """They have ids of a build, and the disk is as root makes it."""
    disk = make_disk(tmp_path / "work", {})
    inside, outside, count = map(int, (tmp_path / "work/uid_map").read_text().split())
    assert (inside, count) == (0, SIZE) and FIRST_ID <= outside < FIRST_ID + MOST_RANGES * SIZE
    with disk.open("rb") as file:
        assert file.read(4) == b"\1" * 4
        file.seek(2048 * SECTOR)
        assert file.read(4) == b"\1" * 4
    listing = processes.check(["mdir", "-b", "-i", f"{disk}@@{4096 * SECTOR}", "::/EFI/BOOT"]).stdout
    assert b"BOOTX64.EFI" in listing


@pytest.mark.parametrize("name", ["boot.img", "core.img", "boot.efi"])
def test_a_link_in_place_of_a_boot_image_leads_nowhere(tmp_path: Path, name: str) -> None:
    """A file of the machine, which only root reads, does not become a part of the disk."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret of the machine ".ljust(SECTOR, b"s"))
    secret.chmod(0o600)
    with pytest.raises((DiskAssemblyFailed, OSError)):
        make_disk(tmp_path / "work", {name: str(secret)})


def test_a_disk_has_the_folder_of_devices_and_none_in_it(tmp_path: Path) -> None:
    """The boot mounts the kernel's own devices there; only root of the machine could unpack nodes."""
    disk = make_disk(tmp_path / "work", {})
    root = f"{disk}?offset={(4096 + 131072) * SECTOR}"
    said = processes.check(["debugfs", "-R", "ls -p /dev", root]).stdout.decode()
    assert {line.split("/")[5] for line in said.splitlines() if line.count("/") > 5} == {".", ".."}
