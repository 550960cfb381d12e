"""The formats that a disk is written in, and their size limits.

raw     any size
qcow2   any size; names no other file
vmdk    stream-optimised, for vSphere 7 and newer with an LSI Logic adapter. Its descriptor names the file itself,
        so it is written under its own name
vhd     dynamic, of exactly the disk's size; the format ends at 2040 GiB
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from imagesmith.values.names import human_size

GIB: Final = 1024**3
LARGEST_DISK: Final = 2 * 1024**4
"""Bytes of the largest disk that is imported, built or kept."""
_VHD_SECTORS: Final = 0xFF000000
_VMDK_HARDWARE: Final = 17
"""vSphere 7.0 (2020). By default QEMU writes 4, the hardware of ESX 3."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class DiskFormat:
    """One format: QEMU's options to write it, and the largest disk that it can hold."""

    name: str
    options: tuple[str, ...]
    largest: int = LARGEST_DISK

    def refusal(self, size: int) -> str:
        """Why a disk of `size` bytes cannot be written in it; empty if it can."""
        if size <= self.largest:
            return ""
        others = " or ".join(other for other, item in FORMATS.items() if item.largest > self.largest)
        hint = f"export it as {others}" if others else "use a smaller disk"
        most = human_size(self.largest)
        return f"the disk has {human_size(size)}, and a {self.name} disk has at most {most}: {hint}"


FORMATS: Final[Mapping[str, DiskFormat]] = MappingProxyType(
    {
        item.name: item
        for item in (
            DiskFormat("qcow2", ("-O", "qcow2")),
            DiskFormat("raw", ("-O", "raw")),
            DiskFormat(
                "vmdk",
                (
                    "-O", "vmdk", "-o",
                    f"subformat=streamOptimized,adapter_type=lsilogic,hwversion={_VMDK_HARDWARE}",
                ),
            ),
            DiskFormat("vhd", ("-O", "vpc", "-o", "subformat=dynamic,force_size=on"), _VHD_SECTORS * 512),
        )
    }
)  # fmt: skip


def name_inside(name: str, form: str) -> str:
    """The file name of a disk: a VMDK descriptor has it in quotes, without escapes."""
    return name if _PLAIN.fullmatch(name) else f"disk.{form}"


def refused_exports(size: int, entries: Sequence[Mapping[str, object]]) -> str:
    """Why a requested export of a disk of `size` bytes is impossible; empty if all are possible."""
    for entry in entries:
        wanted = entry.get("s3ExportConfiguration")
        for item in wanted if isinstance(wanted, list | tuple) else [wanted]:
            form = str(item.get("diskImageFormat", "")).lower() if isinstance(item, Mapping) else ""
            if form in FORMATS and (why := FORMATS[form].refusal(size)):
                return f"s3ExportConfiguration of {entry.get('region')}: {why}"
    return ""
