"""Gives the files of a new ext4 file system times that do not tell when it was made.

mke2fs of 1.47.0 takes the times of access and of change from the files that it copies, whatever E2FSPROGS_FAKE_TIME
says, and nobody can set the latter on a file. So they are written afterwards, by debugfs of the same package.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith import processes
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.ext4 import ROOT_INODE, Ext4, Inode
from imagesmith.artifacts.raw_disk import RawDisk
from imagesmith.processes import Cancellation, ProcessFailed

_SECONDS: Final = 1800.0
_SECOND: Final = 1_000_000_000
_NOISE: Final = re.compile(rb"debugfs [0-9.]+ \([^)]*\)|")


@dataclass(frozen=True)
class FixedTimes:
    """`epoch`: SOURCE_DATE_EPOCH, in seconds; no time of a file system is later."""

    epoch: int

    @property
    def environment(self) -> dict[str, str]:
        """For mke2fs, debugfs and mtools: e2fsprogs 1.47.0 reads the first, later versions the second."""
        return {"E2FSPROGS_FAKE_TIME": str(self.epoch), "SOURCE_DATE_EPOCH": str(self.epoch)}

    def hash_seed(self, system: str) -> str:
        """The seed of the hashes of names, for the UUID of a file system; mke2fs would draw one."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"imagesmith:hash-seed:{system}:{self.epoch}"))

    def write(
        self, target: Path, *, offset: int, size: int, cancellation: Cancellation | None = None
    ) -> None:  # fmt: skip
        """Write the times of all files of a file system in a raw disk. Raises DiskError, Cancelled."""
        with target.open("rb") as file:
            system = Ext4(RawDisk(file.fileno()), offset, size)
            commands = "".join(self._commands(inode) for inode in _inodes(system, cancellation))
        argv = ["debugfs", "-w", "-f", "-", f"{target}?offset={offset}"]
        try:
            done = processes.check(
                argv, what="writing the times of the disk", input=commands.encode(), timeout=_SECONDS,
                cancellation=cancellation, env=processes.host_environment(self.environment),
            )  # fmt: skip
        except (ProcessFailed, FileNotFoundError) as error:
            raise DiskError(str(error)) from error
        # its status is 0 also after a command that failed
        wrong = [line for line in done.stderr.splitlines() if not _NOISE.fullmatch(line)]
        if wrong:
            said = wrong[0].decode(errors="replace")[:200]
            raise DiskError(f"the times of the files of the disk cannot be written: {said}")

    def _commands(self, inode: Inode) -> str:
        modified = min(inode.modified_ns // _SECOND, self.epoch)
        times = {"atime": modified, "ctime": self.epoch}
        if inode.modified_ns > self.epoch * _SECOND:
            times["mtime"] = modified
        return "".join(
            f"sif <{inode.number}> {name}_extra 0\nsif <{inode.number}> {name} @{time}\n"
            for name, time in times.items()
        )


def _inodes(system: Ext4, cancellation: Cancellation | None) -> Iterator[Inode]:
    """Every file once. The file system is new, so its folders form no circle."""
    seen, waiting = {ROOT_INODE}, [ROOT_INODE]
    while waiting:
        inode = system.inode(waiting.pop())
        yield inode
        if not inode.is_folder:
            continue
        if cancellation is not None:
            cancellation.check()
        for _, number in system.entries(inode):
            if number not in seen:
                seen.add(number)
                waiting.append(number)
