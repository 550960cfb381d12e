"""Which kernel of a disk is started without its boot loader. Disks of a few megabytes, made by mke2fs."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from imagesmith.artifacts.machine_disk import RootFileSystem
from imagesmith.instances.machine.direct_kernel_boot import first_kernel
from imagesmith.instances.machine.hardware import Kernel
from testing.disks import disk_of

pytestmark = pytest.mark.tool

ROOT = RootFileSystem(str(uuid.uuid5(uuid.NAMESPACE_URL, "test")))


def made(tmp_path: Path, *, menu: str = ROOT.boot_menu, kernel: str = "boot/vmlinuz-2") -> Path:
    """A disk as the managed base's, with two kernels; `/vmlinuz` names `kernel`."""
    tree = tmp_path / "tree"
    for folder in ("etc", "usr", "boot/grub"):
        (tree / folder).mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(menu)
    (tree / "boot/vmlinuz-1").write_bytes(b"old kernel")
    (tree / "boot/vmlinuz-2").write_bytes(b"new kernel" * 1000)
    (tree / "boot/initrd.img-2").write_bytes(b"its initrd" * 2000)
    (tree / "vmlinuz").symlink_to(kernel)
    (tree / "initrd.img").symlink_to("boot/initrd.img-2")
    return disk_of(tree, tmp_path, options=("-U", ROOT.uuid))


def test_what_the_boot_menu_of_the_base_starts_is_read_out(tmp_path: Path) -> None:
    """The kernel and the initrd that the links name, and the arguments of the menu."""
    assert first_kernel(made(tmp_path), tmp_path) == Kernel("vmlinuz", "initrd.img", ROOT.kernel_arguments)
    assert (tmp_path / "vmlinuz").read_bytes() == b"new kernel" * 1000
    assert (tmp_path / "initrd.img").read_bytes() == b"its initrd" * 2000
    assert f"root=UUID={ROOT.uuid} ro " in ROOT.kernel_arguments and ROOT.kernel_arguments in ROOT.boot_menu


@pytest.mark.parametrize(
    "menu", ["", ROOT.boot_menu.replace(" ro ", " ro quiet "), RootFileSystem(str(uuid.UUID(int=1))).boot_menu]
)
def test_a_changed_boot_menu_is_left_to_the_boot_loader(tmp_path: Path, menu: str) -> None:
    """One that says anything else, or another file system, may want another start."""
    assert first_kernel(made(tmp_path, menu=menu), tmp_path) is None


@pytest.mark.parametrize("kernel", ["boot/vmlinuz-3", "boot", "../vmlinuz", "vmlinuz"])
def test_links_that_lead_to_no_kernel_are_left_to_the_boot_loader(tmp_path: Path, kernel: str) -> None:
    """A file that is not there, a folder, a way out of the disk, and a link to itself."""
    assert first_kernel(made(tmp_path, kernel=kernel), tmp_path) is None
    assert not (tmp_path / "vmlinuz").exists()


def test_a_disk_without_a_system_is_left_to_the_firmware(tmp_path: Path) -> None:
    """No file system that can be read is no failure: the start of the machine tells what is wrong."""
    (tmp_path / "none.qcow2").write_bytes(b"no disk")
    assert first_kernel(tmp_path / "none.qcow2", tmp_path) is None
