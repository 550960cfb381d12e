"""Starts the kernel of a disk without firmware and boot loader, which saves seconds of every emulated start.

    /boot/grub/grub.cfg equals the file that the base was made with?
        yes   /vmlinuz and /initrd.img are read out of the disk and given to QEMU, with that file's own arguments
        no    a change may ask for another start: firmware and boot loader boot the disk

Only for the first start of a machine that a build works in. A restart goes through the firmware, so it obeys the
content of the disk by then, and machines of a test phase start like those of a user.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from imagesmith.artifacts.disk_root import open_root
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.ext4 import Ext4, Inode
from imagesmith.artifacts.machine_disk import RootFileSystem
from imagesmith.instances.machine.hardware import Kernel

_MENU: Final = "boot/grub/grub.cfg"
_KERNEL, _INITRD = "vmlinuz", "initrd.img"
_MOST_BYTES: Final = {_MENU: 64 * 1024, _KERNEL: 64 * 1024**2, _INITRD: 256 * 1024**2}

SAME_ADDRESSES: Final = "norandmaps"
"""Loads programs at the same addresses each time. QEMU caches translated code by its address, so code is translated
once and not at every start of a program: this saves a third of the boot time. See `disable_aslr.py` for the
rest."""


def first_kernel(disk: Path, folder: Path) -> Kernel | None:
    """The kernel of a qcow2 disk's boot menu, written into `folder`; None if only the boot loader knows it."""
    try:
        with open_root(disk) as root:
            system = root.system
            expected = RootFileSystem(system.uuid)
            menu = _file(system, _MENU)
            kernel, initrd = _file(system, _KERNEL), _file(system, _INITRD)
            if menu is None or kernel is None or initrd is None:
                return None
            if b"".join(data for _, data in system.content(menu)) != expected.boot_menu.encode():
                return None
            _copy(system, kernel, folder / _KERNEL)
            _copy(system, initrd, folder / _INITRD)
            return Kernel(_KERNEL, _INITRD, expected.kernel_arguments)
    except (DiskError, OSError):
        # not a disk of ours, or damaged: the start from firmware shows the fault better
        return None


def _file(system: Ext4, path: str) -> Inode | None:
    """A file of bounded size; `/vmlinuz` and `/initrd.img` are links to the newest kernel, which Debian moves."""
    inode = system.find(path)
    if inode is not None and stat.S_ISLNK(inode.mode):
        inode = system.find(system.link(inode).decode(errors="replace"))
    if inode is None or not stat.S_ISREG(inode.mode) or not 0 < inode.size <= _MOST_BYTES[path]:
        return None
    return inode


def _copy(system: Ext4, inode: Inode, target: Path) -> None:
    with target.open("wb") as file:
        file.truncate(inode.size)
        for at, data in system.content(inode):
            file.seek(at)
            file.write(data)
