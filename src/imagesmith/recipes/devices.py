"""Block devices of an image recipe: the result of each, and the refused ones.

    /dev/xvda, /dev/sda1, /dev/sda, /dev/vda     the root disk: its size
    another name with a volumeSize               a further empty volume, for the machines of the build and its tests
    noDevice, or nothing but a virtualName       nothing

A volume of a snapshot, two mappings for one device and impossible sizes are refused by name. Other members of
`ebs` (type, speed, deletion, encryption) have no effect here; encryption causes a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ROOT_NAMES: Final = ("/dev/xvda", "/dev/sda1", "/dev/sda", "/dev/vda")
LARGEST_GB: Final = 2048


class DeviceRefused(ValueError):
    """A mapping that cannot be applied; `path` is the member of the recipe."""

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        self.detail = detail
        super().__init__(f"{path}: {detail}")


@dataclass(frozen=True)
class Devices:
    """The devices of a machine."""

    root_gb: int = 0
    """Size of the root disk in GiB; 0 for the parent's size."""
    volumes: tuple[tuple[str, int], ...] = ()
    """Name and size in GiB of each further volume."""
    warnings: tuple[str, ...] = ()


def read_devices(mappings: Sequence[Mapping[str, Any]]) -> Devices:
    """The devices of a recipe's `blockDeviceMappings`. Raises DeviceRefused."""
    root, volumes, warnings = 0, [], []
    seen: dict[str, str] = {}
    for index, mapping in enumerate(mappings):
        path = f"blockDeviceMappings[{index}]"
        ebs = mapping.get("ebs", {})
        name = str(mapping.get("deviceName", ""))
        device = "the root disk" if name in ROOT_NAMES else name
        if name and device in seen:
            raise DeviceRefused(f"{path}.deviceName", f"{name} is {device}, as is {seen[device]}; keep one.")
        seen[device] = f"{path.replace('blockDeviceMappings', '')} {name}".strip()
        if "noDevice" in mapping:
            continue
        if "snapshotId" in ebs:
            raise DeviceRefused(
                f"{path}.ebs.snapshotId",
                "New volumes are empty, and the root disk comes from parentImage. Remove it.",
            )
        size = int(ebs.get("volumeSize", 0))
        if size > LARGEST_GB:
            detail = f"It is {size} GiB, and a disk here has at most {LARGEST_GB} GiB."
            raise DeviceRefused(f"{path}.ebs.volumeSize", detail)
        if ebs.get("encrypted") or ebs.get("kmsKeyId"):
            warnings.append(f"{path}: disks are not encrypted here; encrypt the file system of the data directory")
        if name in ROOT_NAMES:
            root = size
        elif size and name:
            volumes.append((f"volume{index}", size))
        elif "virtualName" in mapping:
            warnings.append(f"{path}: there are no instance store volumes ({mapping['virtualName']})")
        else:
            missing = "volumeSize" if name else "deviceName"
            warnings.append(f"{path} has no {missing}: it creates no volume")
    return Devices(root, tuple(volumes), tuple(warnings))
