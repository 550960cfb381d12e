"""Assembles a bootable disk from a root file system in a file: no loop device, no mount of the result.

    LBA 0      protective MBR with GRUB's boot.img      BIOS starts here
    2048       p1  BIOS boot, 1 MiB: GRUB's core.img
    4096       p2  EFI system, 64 MiB, FAT: EFI/BOOT/BOOTX64.EFI     UEFI starts here
    135168     p3  root, ext4, label `root`: /boot/grub/grub.cfg -> /vmlinuz, /initrd.img

Both boot images find p3 by the UUID of its file system and read the same grub.cfg there. It names the links that
Debian moves with every kernel, so it stays valid after a kernel update; `update-grub` may replace it.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.first_boot import FIRST_BOOT
from imagesmith.artifacts.namespace_entry import NamespaceEntry, entered
from imagesmith.artifacts.rootfs import Root
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.processes import Cancellation, ProcessFailed

SECTOR = 512
DISK_BYTES = 8 * 1024**3
_SECONDS = 1800.0
_BIOS_FIRST, _BIOS_SECTORS = 2048, 2048
_ESP_FIRST, _ESP_SECTORS = 4096, 131072
_ROOT_FIRST = _ESP_FIRST + _ESP_SECTORS
_GPT_TAIL_SECTORS = 2048
_BOOT_CODE_BYTES = 440
_KERNEL_SECTOR, _DRIVE_CHECK, _BLOCK_LIST = 0x5C, 0x66, 0x1F4
"""Fields of GRUB's boot.img and of the first sector of core.img (grub-core/boot/i386/pc)."""

_BIOS_GUID = "21686148-6449-6E6F-744E-656564454649"
_ESP_GUID = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_GUID = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"

_GRUB_CFG = """\
# Written when the base was made; update-grub may replace it.
set timeout=0
if serial --unit=0 --speed=115200; then
  terminal_input console serial
  terminal_output console serial
fi
menuentry "Debian GNU/Linux" {
  search --no-floppy --fs-uuid --set=root @UUID@
  linux /vmlinuz @ARGUMENTS@
  initrd /initrd.img
}
"""
_ARGUMENTS = "root=UUID=@UUID@ ro console=tty0 console=ttyS0,115200n8"
_MODULES = "part_gpt ext2 search search_fs_uuid normal configfile linux echo test serial terminal"

# "$1" is the new root. Debian's own GRUB makes the boot images, in the root, so this machine needs none.
_BOOT_LOADER = """
for place in i386-pc x86_64-efi; do
  mkdir -p "$1/boot/grub/$place"
  cp "$1/usr/lib/grub/$place/"*.mod "$1/usr/lib/grub/$place/"*.lst "$1/boot/grub/$place/"
done
cat >"$1/boot/grub/grub.cfg" <<'END'
@GRUB_CFG@END
cat >"$1/boot/grub/early.cfg" <<'END'
search.fs_uuid @UUID@ root
set prefix=($root)/boot/grub
END
chroot "$1" grub-mkimage -O i386-pc -c /boot/grub/early.cfg -p /boot/grub -o /boot/grub/core.img biosdisk @MODULES@
chroot "$1" grub-mkimage -O x86_64-efi -c /boot/grub/early.cfg -p /boot/grub -o /boot/grub/boot.efi fat @MODULES@
cp "$1/usr/lib/grub/i386-pc/boot.img" "$1/boot/grub/boot.img"
mkdir -p "$1/boot/efi"
chroot "$1" update-initramfs -u
chroot "$1" systemctl --quiet enable systemd-networkd.service ssh-host-key.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
rm -f "$1"/etc/ssh/ssh_host_* "$1/var/lib/systemd/random-seed"
chroot "$1" sh <<'END'
@FIRST_BOOT@END
"""

# Only root of the machine could make the device nodes; the kernel's devtmpfs has them, and needs the folder.
# "$1": a folder for the root; "$2": its size in memory, or empty; "$3": the tar; "$4": folder of the boot images;
# the rest: mke2fs and its arguments, to which the folder belongs as the value of -d.
_FILL = """\
[ -z "$2" ] || mount -t tmpfs -o mode=0755,size="$2" none "$1" || exit 1
tar -C "$1" --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*' -xpf "$3" || exit 1
mkdir -p "$1/dev" || exit 1
for image in boot.img core.img boot.efi; do mv "$1/boot/grub/$image" "$4/" || exit 1; done
shift 4; exec "$@"
"""


class DiskAssemblyFailed(RuntimeError):
    """A disk could not be assembled; the text names the failed tool and its last output."""


@dataclass(frozen=True)
class RootFileSystem:
    """The root of a disk; the boot images contain its UUID too."""

    uuid: str

    @classmethod
    def of_key(cls, key: str) -> RootFileSystem:
        """The same UUID for the same content key."""
        return cls(str(uuid.uuid5(uuid.NAMESPACE_URL, f"imagesmith:{key}")))

    @property
    def finish_script(self) -> str:
        """The script that makes the disk bootable; the bootstrap runs it at its end."""
        return (
            _BOOT_LOADER.replace("@GRUB_CFG@", self.boot_menu)
            .replace("@FIRST_BOOT@", FIRST_BOOT)
            .replace("@UUID@", self.uuid)
            .replace("@MODULES@", _MODULES)
        )

    @property
    def boot_menu(self) -> str:
        """The grub.cfg that a base is made with."""
        return _GRUB_CFG.replace("@ARGUMENTS@", self.kernel_arguments).replace("@UUID@", self.uuid)

    @property
    def kernel_arguments(self) -> str:
        """The kernel's arguments in that grub.cfg."""
        return _ARGUMENTS.replace("@UUID@", self.uuid)


def assemble(
    work: Path,
    root: RootFileSystem,
    *,
    environment: Mapping[str, str],
    memory_bytes: int = 0,
    cancellation: Cancellation | None = None,
    namespace: BuildNamespace | None = None,
) -> Path:
    """Make `work/disk.raw`, sparse, from `work/layer.tar`, a root that was finished with `root.finish_script`.

    `memory_bytes`: the most memory for the unpacked root; 0 unpacks it on the disk of `work`.
    The tools run in the namespace. Raises DiskAssemblyFailed, OSError, Cancelled.
    """
    disk = work / "disk.raw"
    with disk.open("xb") as file:
        file.truncate(DISK_BYTES)
    with entered(namespace, work) as entry:
        tool = partial(_tool, entry=entry, environment=environment, cancellation=cancellation)
        _fill(tool, entry.folder, root, memory_bytes)
    with Root(work) as found:
        # programs that read the root could write in the folder: no link of theirs is followed
        os.close(found.open_regular(disk.name))
        boot, core = (found.read(name, limit=_BIOS_SECTORS * SECTOR) for name in ("boot.img", "core.img"))
    if disk.is_symlink():
        raise DiskAssemblyFailed("the disk became a link while it was made")
    install_bios_loader(disk, boot, core)
    return disk


def _fill(tool: Callable[..., None], work: Path, root: RootFileSystem, memory_bytes: int) -> None:
    """Write partitions and file systems; `work` is the path of the folder that the tools see."""
    disk, folder = work / "disk.raw", work / "unpacked"
    tool(["sfdisk", "--quiet", str(disk)], "partitioning the disk", input=_partition_table(root).encode())
    tool(["mkdir", str(folder)], "making a folder")
    size = f"{memory_bytes // 1024**2}m" if memory_bytes else ""
    fill = ["sh", "-c", _FILL, "fill", str(folder), size, str(work / "layer.tar"), str(work)]
    tool([*fill, *_mke2fs(disk, folder, root)], "making the root file system")
    esp = f"{disk}@@{_ESP_FIRST * SECTOR}"
    tool(["mformat", "-i", esp, "-F", "-T", str(_ESP_SECTORS), "-h", "16", "-s", "63", "-v", "ESP", "::"], "FAT")
    tool(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"], "making folders of the EFI partition")
    tool(["mcopy", "-i", esp, str(work / "boot.efi"), "::/EFI/BOOT/BOOTX64.EFI"], "copying the EFI boot loader")


def _tool(
    argv: list[str],
    what: str,
    *,
    entry: NamespaceEntry,
    environment: Mapping[str, str],
    cancellation: Cancellation | None,
    input: bytes | None = None,
) -> None:
    """Run a program of this computer in the namespace. Raises DiskAssemblyFailed, Cancelled."""
    try:
        processes.check(
            [*entry.argv, *argv], what=what, input=input, tree=True, timeout=_SECONDS, env=environment,
            cancellation=cancellation, pass_fds=entry.descriptors,
        )  # fmt: skip
    except (ProcessFailed, FileNotFoundError) as error:
        raise DiskAssemblyFailed(str(error)) from error


def install_bios_loader(disk: Path, boot: bytes, core: bytes) -> None:
    """Write GRUB's two images where the BIOS and boot.img read them. Raises DiskAssemblyFailed."""
    if len(boot) != SECTOR or not SECTOR < len(core) <= _BIOS_SECTORS * SECTOR:
        raise DiskAssemblyFailed(f"GRUB's boot images have odd sizes: boot.img {len(boot)}, core.img {len(core)}")
    first = bytearray(boot)
    struct.pack_into("<Q", first, _KERNEL_SECTOR, _BIOS_FIRST)
    # Two no-operations: the drive number that the BIOS passes is correct for every boot disk.
    first[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    rest = bytearray(core)
    sectors = -(-len(core) // SECTOR) - 1
    struct.pack_into("<QH", rest, _BLOCK_LIST, _BIOS_FIRST + 1, sectors)
    with disk.open("r+b") as file:
        file.write(first[:_BOOT_CODE_BYTES])
        file.seek(_BIOS_FIRST * SECTOR)
        file.write(rest)


def _partition_table(root: RootFileSystem) -> str:
    sectors = DISK_BYTES // SECTOR - _ROOT_FIRST - _GPT_TAIL_SECTORS
    return (
        f"label: gpt\nlabel-id: {root.uuid}\n"
        f"start={_BIOS_FIRST}, size={_BIOS_SECTORS}, type={_BIOS_GUID}, name=bios\n"
        f"start={_ESP_FIRST}, size={_ESP_SECTORS}, type={_ESP_GUID}, name=esp\n"
        f"start={_ROOT_FIRST}, size={sectors}, type={_ROOT_GUID}, name=root\n"
    )


def _mke2fs(disk: Path, folder: Path, root: RootFileSystem) -> list[str]:
    kilobytes = (DISK_BYTES // SECTOR - _ROOT_FIRST - _GPT_TAIL_SECTORS) // 2
    # The file is new and so all zeros: nothing needs to be zeroed now, or later inside the guest.
    options = f"offset={_ROOT_FIRST * SECTOR},assume_storage_prezeroed=1,nodiscard"
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", root.uuid, "-m", "1", "-E", options,
        "-d", str(folder), str(disk), f"{kilobytes}k",
    ]  # fmt: skip
