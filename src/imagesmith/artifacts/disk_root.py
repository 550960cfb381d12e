"""Unpacks the root file system of a disk into a folder, and makes a new disk from a folder.

    qcow2 --read--> root partition (ext4) --unpack--> folder --change it--> mke2fs -d --> raw, sparse
               everything beside that partition (table, boot loaders, EFI system) is copied unchanged ---'

No mount, no loop device, nothing boots. The new file system keeps the UUID and label of the old one, by which
boot loaders and /etc/fstab find it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith import processes
from imagesmith.artifacts.block_device import BlockDevice, open_disk
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.ext4 import ROOT_INODE, Ext4, Inode, UnreadableFileSystem
from imagesmith.artifacts.ext4_times import FixedTimes
from imagesmith.artifacts.mount_table import Mount, elsewhere, of_packages, other_root, read_mounts
from imagesmith.artifacts.partitions import SECTOR, Partition, Readable, read_partitions
from imagesmith.artifacts.raw_disk import RawDisk
from imagesmith.processes import Cancellation, ProcessFailed

_MOST_FILES: Final = 2_000_000
_DEEPEST: Final = 256
_COPY: Final = 4 * 1024 * 1024
_SECONDS: Final = 1800.0
_FEATURES: Final = "^orphan_file,^metadata_csum_seed"
"""Features that the boot loaders of older systems do not support."""

Wanted = Callable[[str, bool], bool]
"""Whether a path (without the leading `/`) is wanted; the second argument is true for folders."""


@dataclass(frozen=True)
class DiskRoot:
    """The root file system of an open disk."""

    disk: BlockDevice
    partition: Partition
    system: Ext4
    elsewhere: tuple[Mount, ...] = ()
    """Parts of the system on other partitions, which are not read."""

    def require_packages(self) -> None:
        """Refuse a root whose packages are on other partitions. Raises DiskError."""
        missing = of_packages(self.elsewhere)
        if missing:
            raise DiskError(
                f"{_format_mounts(missing)}: packages there are not read; build the image on one partition"
            )

    def require_all(self) -> None:
        """Refuse a root that is not the whole system. Raises DiskError."""
        if self.elsewhere:
            raise DiskError(
                f"{_format_mounts(self.elsewhere)}, and only the root would be changed: build it with a boot"
            )


def _format_mounts(mounts: tuple[Mount, ...]) -> str:
    points = ", ".join(f"{mount.point} ({mount.source})" for mount in mounts)
    return f"its /etc/fstab has {points} on another partition"


@contextmanager
def open_root(disk: Path) -> Iterator[DiskRoot]:
    """Find the root file system of a trusted qcow2 disk. Raises DiskError."""
    with open_disk(disk) as device:
        yield find_root(device)


def find_root(disk: BlockDevice) -> DiskRoot:
    """The first ext4 partition with a system whose fstab names it as the root. Raises DiskError."""
    reasons = []
    for partition in read_partitions(disk):
        if not partition.may_be_root:
            if partition.kind_name:
                reasons.append(f"partition {partition.number}: {partition.kind_name}, which is not read")
            continue
        try:
            system = Ext4(disk, partition.offset, partition.size)
            if system.find("etc") is None or system.find("usr") is None:
                reasons.append(f"partition {partition.number} contains no system")
                continue
            mounts = read_mounts(system)
            other = other_root(mounts, uuid=system.uuid, label=system.label, number=partition.number)
            if not other:
                return DiskRoot(disk, partition, system, elsewhere(mounts))
            reasons.append(f"partition {partition.number} contains a system whose root is {other}")
        except UnreadableFileSystem as error:
            reasons.append(f"partition {partition.number}: {error}")
    raise DiskError(f"the disk has no root file system that can be read: {'; '.join(reasons) or 'no partition'}")


def unpack(
    root: DiskRoot, folder: Path, *, wanted: Wanted | None = None, ids: int = 1 << 32,
    cancellation: Cancellation | None = None,
) -> int:  # fmt: skip
    """Copy the files of a root into an empty folder, as root, with all attributes that ext4 stores.

    Files of users and groups from `ids` on are refused. Returns the number of files. Raises DiskError, OSError,
    Cancelled.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Unpacking(root.system, wanted, ids, cancellation).run(top)
    finally:
        os.close(top)


class _Unpacking:
    """One copy. Folders are made and entered by descriptor, so no link of the disk is ever followed."""

    def __init__(self, system: Ext4, wanted: Wanted | None, ids: int, cancellation: Cancellation | None) -> None:
        self._ids = ids
        self._system = system
        self._wanted = wanted
        self._cancellation = cancellation
        self._known: dict[int, str] = {}
        """First path of a file with several links."""
        self._top = -1
        self._count = 0

    def run(self, top: int) -> int:
        self._top = top
        inode = self._system.inode(ROOT_INODE)
        self._folder(inode, top, "", frozenset({ROOT_INODE}))
        _set_metadata(self._system, inode, top)
        return self._count

    def _folder(self, folder: Inode, parent: int, path: str, above: frozenset[int]) -> None:
        if len(above) > _DEEPEST:
            raise UnreadableFileSystem(f"folders are nested more than {_DEEPEST} deep, or form a circle")
        for raw, number in self._system.entries(folder):
            if self._cancellation is not None:
                self._cancellation.check()
            name = os.fsdecode(raw)
            inside = f"{path}{name}"
            inode = self._system.inode(number)
            is_folder = stat.S_ISDIR(inode.mode)
            if self._wanted is not None and not self._wanted(inside, is_folder):
                continue
            self._count += 1
            if self._count > _MOST_FILES:
                raise UnreadableFileSystem(f"the file system has more than {_MOST_FILES} files")
            if max(inode.uid, inode.gid) >= self._ids:
                raise UnreadableFileSystem(
                    f"{inside} belongs to {inode.uid}:{inode.gid}, beyond the ids of a build"
                )
            if is_folder:
                if number in above:
                    raise UnreadableFileSystem(f"the folder {inside} contains itself")
                self._subfolder(inode, parent, name, inside, above | {number})
            else:
                self._file(inode, parent, name, inside)

    def _subfolder(self, inode: Inode, parent: int, name: str, path: str, above: frozenset[int]) -> None:
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._folder(inode, descriptor, f"{path}/", above)
            _set_metadata(self._system, inode, descriptor)
        finally:
            os.close(descriptor)

    def _file(self, inode: Inode, parent: int, name: str, path: str) -> None:
        if inode.number in self._known:
            os.link(self._known[inode.number], name, src_dir_fd=self._top, dst_dir_fd=parent, follow_symlinks=False)
            return
        if inode.links > 1:
            self._known[inode.number] = path
        if stat.S_ISREG(inode.mode):
            self._regular(inode, parent, name)
            return
        if stat.S_ISLNK(inode.mode):
            os.symlink(self._system.link(inode), os.fsencode(name), dir_fd=parent)
            os.chown(name, inode.uid, inode.gid, dir_fd=parent, follow_symlinks=False)
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            os.mknod(name, inode.mode, os.makedev(*inode.device), dir_fd=parent)
            os.chown(name, inode.uid, inode.gid, dir_fd=parent, follow_symlinks=False)
        elif stat.S_ISFIFO(inode.mode):
            os.mkfifo(name, stat.S_IMODE(inode.mode), dir_fd=parent)
            os.chown(name, inode.uid, inode.gid, dir_fd=parent, follow_symlinks=False)
        else:
            return  # a socket is useless without the program that listened
        times = (inode.modified_ns, inode.modified_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _regular(self, inode: Inode, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            for offset, data in self._system.content(inode):
                _write(descriptor, data, offset)
            os.ftruncate(descriptor, inode.size)
            _set_metadata(self._system, inode, descriptor)
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _set_metadata(system: Ext4, inode: Inode, descriptor: int) -> None:
    """Set owner, attributes, mode and time, in this order: each may reset a later one."""
    os.fchown(descriptor, inode.uid, inode.gid)
    for name, value in system.attributes(inode).items():
        os.setxattr(descriptor, name, value)
    os.fchmod(descriptor, stat.S_IMODE(inode.mode))
    os.utime(descriptor, ns=(inode.modified_ns, inode.modified_ns))


def repack(
    root: DiskRoot, folder: Path, target: Path, *, size: int = 0, times: FixedTimes | None = None,
    cancellation: Cancellation | None = None,
) -> None:  # fmt: skip
    """Make `target`, a raw copy of the disk of `root` whose root file system has the content of `folder`.

    `size`: bytes of a larger new disk; the root partition takes the added space, and must be the last. With `times`
    the same content makes the same bytes.
    Raises DiskError, Cancelled.
    """
    disk, partition = root.disk, root.partition
    with target.open("wb") as file:
        file.truncate(max(size, disk.size))
        for start, end in ((0, partition.offset), (partition.offset + partition.size, disk.size)):
            _copy(disk, file.fileno(), start, end, cancellation)
    if size > disk.size:
        _enlarge(target, partition, cancellation)
        partition = _same(target, partition)
    _make_system(root.system, partition, folder, target, times, cancellation)
    if times is not None:
        times.write(target, offset=partition.offset, size=partition.size, cancellation=cancellation)


def _copy(disk: Readable, descriptor: int, start: int, end: int, cancellation: Cancellation | None) -> None:
    for at in range(start, end, _COPY):
        if cancellation is not None:
            cancellation.check()
        data = disk.read(at, min(_COPY, end - at))
        if any(data):
            _write(descriptor, data, at)


def _enlarge(target: Path, partition: Partition, cancellation: Cancellation | None) -> None:
    number = str(partition.number)
    _tool(["sfdisk", "--quiet", "--relocate", "gpt-bak-std", str(target)], b"", cancellation)
    _tool(["sfdisk", "--quiet", "--no-reread", "-N", number, str(target)], b", +\n", cancellation)


def _same(target: Path, partition: Partition) -> Partition:
    """The partition with its new size."""
    with target.open("rb") as file:
        disk = RawDisk(file.fileno())
        found = next(item for item in read_partitions(disk) if item.number == partition.number)
    if found.offset != partition.offset:
        raise DiskError("the root partition moved when the disk was enlarged")
    return found


def _make_system(
    system: Ext4, partition: Partition, folder: Path, target: Path, times: FixedTimes | None,
    cancellation: Cancellation | None,
) -> None:  # fmt: skip
    # The file is new and so all zeros: nothing needs to be zeroed now, or later inside the guest.
    options = f"offset={partition.offset},assume_storage_prezeroed=1,nodiscard"
    options += f",hash_seed={times.hash_seed(system.uuid)}" if times is not None else ""
    _tool(
        [
            "mke2fs", "-q", "-F", "-t", "ext4", "-O", _FEATURES, "-b", str(system.block_size), "-L", system.label,
            "-U", system.uuid, "-m", str(min(system.reserved_percent, 50)), "-E", options, "-d", str(folder),
            str(target), f"{partition.size // SECTOR // 2}k",
        ],
        b"", cancellation, times.environment if times is not None else {},
    )  # fmt: skip


def _tool(
    argv: list[str], data: bytes, cancellation: Cancellation | None, variables: Mapping[str, str] | None = None
) -> None:
    env = processes.host_environment(dict(variables)) if variables else None
    try:
        processes.check(
            argv, what="making the disk", input=data, timeout=_SECONDS, cancellation=cancellation, env=env
        )
    except (ProcessFailed, FileNotFoundError) as error:
        raise DiskError(str(error)) from error
