"""The backing chain of a machine's disk, and snapshots of it while the machine runs.

    parent (anywhere)  <-- overlays, oldest first (linked into the machine's folder) <-- root.qcow2 (written)

    freeze: root.qcow2 gets the name of an overlay for ever; a new, empty root.qcow2 on top of it is written to

Overlays name each other by file name only, so a chain means the same in every folder that holds all of it, and in
QEMU's sandbox, which sees the folder under another path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from imagesmith import processes
from imagesmith.instances.command import Command
from imagesmith.instances.machine.hardware import FOLDER
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Completed

_TOOL_SECONDS = 120.0
_QUIET_SECONDS = 60.0

# The guard thaws the file system if the host does not: a frozen machine could not even be shut down.
_FREEZE = (
    "sync; (sleep 30; fsfreeze -u /) >/dev/null 2>&1 </dev/null & echo $!; "
    "fsfreeze -f / 2>/dev/null || echo not frozen"
)
_THAW = 'fsfreeze -u / 2>/dev/null; kill "$1" 2>/dev/null; exit 0'


class Guest(Protocol):
    """The part of a guest that freezing needs: running commands."""

    def run(self, command: Command) -> Completed: ...


class Control(Protocol):
    """The control of a running QEMU."""

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any: ...


@dataclass
class BackingChain:
    """The backing chain of one machine. `overlays` are uniquely named files, oldest first."""

    parent: Path
    overlays: tuple[Path, ...] = ()
    _node: str = field(default="root", init=False)
    _frozen: int = field(default=0, init=False)

    @property
    def top(self) -> Path:
        return self.overlays[-1] if self.overlays else self.parent

    def reopened(self) -> None:
        """A new QEMU has opened the disk: it only has the node names of its own command line."""
        self._node = "root"

    def freeze(self, disk: Path, name: str, *, guest: Guest, control: Control) -> Path:
        """Keep the current content of `disk` as `name`; changes go into a new overlay. Raises InstanceError."""
        frozen = disk.with_name(name)
        with _quiet(guest):
            disk.rename(frozen)
            _image(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", name, str(disk)])
            node = f"root-{self._frozen + 1}"
            file = {
                "driver": "file", "filename": f"{FOLDER}/{disk.name}", "cache": {"no-flush": True},
                "discard": "unmap",
            }  # fmt: skip
            added = {"driver": "qcow2", "node-name": node, "file": file, "discard": "unmap", "backing": None}
            control.execute("blockdev-add", added)
            control.execute("blockdev-snapshot", {"node": self._node, "overlay": node})
        self._node, self._frozen = node, self._frozen + 1
        self.overlays = (*self.overlays, frozen)
        return frozen


def make_disk(chain: BackingChain, disk: Path, *, bytes_wanted: int) -> None:
    """Make the overlay that a new machine writes to; `bytes_wanted` is its minimum size. Raises InstanceError."""
    for overlay in chain.overlays:
        try:
            # A link of its own: the cache may drop the file while the machine runs.
            os.link(overlay, disk.with_name(overlay.name))
        except OSError as error:
            raise InstanceError(f"the overlay {overlay} cannot be used: {error.strerror}") from error
    size = [str(bytes_wanted)] if bytes_wanted > virtual_size(chain.top) else []
    backing = chain.top.name if chain.overlays else str(chain.parent)
    _image(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, str(disk), *size])


def virtual_size(disk: Path) -> int:
    """The size in bytes of a qcow2 disk, as a guest sees it."""
    with disk.open("rb") as file:
        header = file.read(32)
    if header[:4] != b"QFI\xfb":
        raise InstanceError(f"{disk} is not a qcow2 disk")
    return int.from_bytes(header[24:32], "big")


@contextmanager
def _quiet(guest: Guest) -> Iterator[None]:
    """Flush and freeze the file system of a guest; one that cannot freeze is only flushed."""
    done = guest.run(Command(["/bin/sh", "-c", _FREEZE], timeout=_QUIET_SECONDS))
    guard = done.stdout.decode(errors="replace").split("\n")[0].strip()
    if done.returncode != 0 or not guard.isdecimal():
        raise InstanceError(f"the disk cannot be brought to rest: {done.tail(3)}")
    try:
        yield
    finally:
        with contextlib.suppress(InstanceError):
            guest.run(Command(["/bin/sh", "-c", _THAW, "thaw", guard], timeout=_QUIET_SECONDS))


def _image(arguments: list[str]) -> None:
    try:
        processes.check(["qemu-img", *arguments], what="making a disk", timeout=_TOOL_SECONDS)
    except (processes.ProcessFailed, FileNotFoundError) as error:
        raise InstanceError(f"there is no disk for the machine: {error}") from error
