"""Reads the partitions of a disk: GPT, or the four of an MBR. The data is untrusted, so it is bounded."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Final, Protocol

from imagesmith.artifacts.disks import DiskError

SECTOR: Final = 512
_GPT_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_GPT_ENTRY: Final = struct.Struct("<16s16sQQQ")
_MOST_ENTRIES: Final = 256
_LARGEST_ENTRY: Final = 4096
_PROTECTIVE: Final = 0xEE
_LINUX: Final = 0x83
ROOT_X86_64: Final = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
LINUX_DATA: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"


_NOT_READ: Final = {
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "LVM", "8e": "LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "RAID", "fd": "RAID",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "LUKS",
    "05": "an extended partition", "0f": "an extended partition", "85": "an extended partition",
    "07": "NTFS or exFAT", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Windows data",
}  # fmt: skip
"""Types of partitions that may contain a root, and that are not searched."""


class Readable(Protocol):
    """Random access to the bytes of a disk."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...


@dataclass(frozen=True)
class Partition:
    """A part of a disk, in bytes."""

    number: int
    offset: int
    size: int
    kind: str
    """Type GUID, or `83` and so on of an MBR."""

    @property
    def may_be_root(self) -> bool:
        return self.kind in (ROOT_X86_64, LINUX_DATA, f"{_LINUX:02x}")

    @property
    def kind_name(self) -> str:
        """The name of a partition type that may contain a root and is not searched; empty for others."""
        return _NOT_READ.get(self.kind, "")


def read_partitions(disk: Readable) -> list[Partition]:
    """The partitions of a disk, likeliest root first. Raises DiskError if it has no known table."""
    first = disk.read(0, SECTOR)
    if first[510:] != b"\x55\xaa":
        raise DiskError("the disk has no partition table")
    kinds = [first[446 + 16 * index + 4] for index in range(4)]
    found = _gpt(disk) if _PROTECTIVE in kinds else _mbr(disk, first)
    return sorted(found, key=lambda item: (item.kind != ROOT_X86_64, -item.size))


def _gpt(disk: Readable) -> list[Partition]:
    header = _GPT_HEADER.unpack_from(disk.read(SECTOR, SECTOR))
    signature, start, count, size = header[0], header[10], header[11], header[12]
    if signature != b"EFI PART" or not 128 <= size <= _LARGEST_ENTRY or not 0 < count <= _MOST_ENTRIES:
        raise DiskError("the partition table (GPT) of the disk is damaged")
    table = disk.read(start * SECTOR, count * size)
    found = []
    for index in range(count):
        kind, _, first, last, _ = _GPT_ENTRY.unpack_from(table, index * size)
        if any(kind):
            found.append(_partition(disk, index + 1, first, last - first + 1, str(uuid.UUID(bytes_le=kind))))
    return found


def _mbr(disk: Readable, sector: bytes) -> list[Partition]:
    found = []
    for index in range(4):
        kind = sector[446 + 16 * index + 4]
        first, count = struct.unpack_from("<II", sector, 446 + 16 * index + 8)
        if kind:
            found.append(_partition(disk, index + 1, first, count, f"{kind:02x}"))
    return found


def _partition(disk: Readable, number: int, first: int, count: int, kind: str) -> Partition:
    if count <= 0 or (first + count) * SECTOR > disk.size:
        raise DiskError(f"partition {number} of the disk reaches beyond its end")
    return Partition(number, first * SECTOR, count * SECTOR, kind)
