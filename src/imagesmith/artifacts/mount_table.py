"""Reads the mount table of a system, to check whether its root partition is the whole system.

A partition that holds `etc` and `usr` may be a rescue system, or the root of a system whose `/usr` or `/var` is on
another partition. Reading that partition alone would show no packages, or those of another system.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Final

from imagesmith.artifacts.ext4 import Ext4

_LARGEST: Final = 64 * 1024
_OF_DISKS: Final = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/")
_FIRMWARE: Final = ("/boot/efi", "/efi")
"""Mount points of an EFI system partition, which holds boot loaders and no packages."""
_OF_PACKAGES: Final = ("/usr", "/var", "/etc", "/lib")
_DATA: Final = tuple(f"/var/{name}" for name in ("log", "tmp", "cache", "spool", "mail"))
_NUMBERED: Final = re.compile(r"/dev/(?:(?:sd|vd|xvd|hd)[a-z]+|nvme\d+n\d+p|mmcblk\d+p)(\d+)")
_LOGICAL: Final = re.compile(r"/dev/(?:mapper/.+|dm-\d+|md.+|(?!disk/)[^/]+/[^/]+)")


@dataclass(frozen=True)
class Mount:
    """A line of fstab about a disk."""

    source: str
    point: str
    type: str


def read_mounts(system: Ext4) -> tuple[Mount, ...]:
    """The disk mounts in a system's /etc/fstab; empty if that is missing or not a regular file."""
    inode = system.find("etc/fstab")
    if inode is None or not stat.S_ISREG(inode.mode) or inode.size > _LARGEST:
        return ()
    found = []
    for line in b"".join(data for _, data in system.content(inode)).decode(errors="replace").splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[2] in ("swap", "ignore"):
            continue
        options = fields[3].split(",") if len(fields) > 3 else []
        if fields[0].startswith(_OF_DISKS) and fields[1].startswith("/") and not {"noauto", "bind"} & {*options}:
            found.append(Mount(fields[0].replace('"', ""), fields[1].rstrip("/") or "/", fields[2]))
    return tuple(found)


def other_root(mounts: tuple[Mount, ...], *, uuid: str, label: str, number: int) -> str:
    """The root in the table if it is another file system; empty if it is this one, or cannot be determined."""
    source = next((mount.source for mount in mounts if mount.point == "/"), "")
    numbered = _NUMBERED.fullmatch(source)
    for prefix, own in (
        ("UUID=", uuid), ("LABEL=", label), ("/dev/disk/by-uuid/", uuid), ("/dev/disk/by-label/", label)
    ):  # fmt: skip
        if source.startswith(prefix):
            return "" if source.removeprefix(prefix).lower() == own.lower() else source
    if numbered:
        return "" if int(numbered[1]) == number else source
    return source if _LOGICAL.fullmatch(source) else ""


def elsewhere(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Mounts of the system on other partitions: all but its root and the firmware's partition."""
    return tuple(mount for mount in mounts if mount.point not in ("/", *_FIRMWARE))


def of_packages(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Mounts that may hold packages, or the package database."""
    return tuple(
        mount for mount in mounts
        if any(f"{mount.point}/".startswith(f"{folder}/") for folder in _OF_PACKAGES)
        and not mount.point.startswith(_DATA)
    )  # fmt: skip
