"""The managed machine base, and the processes and folders of machines that run.

The base takes some two minutes on a small machine. The processes of a run share a folder of bases, whose name is in
TEST_BASES_FOLDER; a base in it is used as long as it is fresh and its document is the same. It may be a folder
of earlier runs.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagesmith.artifacts.disks import Disk, DiskStore
from imagesmith.artifacts.machine_bases import MachineBases
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.timer import Timer
from imagesmith.managed.bases import managed_base
from imagesmith.processes import Cancellation


@dataclass(frozen=True)
class MadeBase:
    """The base, where it is kept, and what was said while it was made."""

    disk: Disk
    store: DiskStore
    folder: Path
    lines: list[str]


HANG = b"\xeb\xfe"
"""A boot sector that jumps to itself."""


def left_over(tmp_path: Path) -> list[str]:
    """Folders and processes of machines of this test."""
    folders = [str(place) for place in (tmp_path / "machines").glob("*") if place.is_dir()]
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return folders + [line for line in listed.splitlines() if str(tmp_path) in line and "pytest" not in line]


def machine_process(folder: Path) -> int:
    """The process id of the QEMU whose sandbox holds a folder, or 0."""
    for place in Path("/proc").iterdir():
        try:
            if (place / "comm").read_text().startswith("qemu-system") and str(folder) in (
                place / "mountinfo"
            ).read_text():
                return int(place.name)
        except (OSError, ValueError):
            continue
    return 0


def await_process(folder: Path, *, there: bool) -> int:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = machine_process(folder)
        if bool(found) == there:
            return found
        time.sleep(0.1)
    raise AssertionError(f"QEMU is {'not ' if there else ''}there after 30 s")


def bases_folder(new_folder: Callable[[], Path]) -> Path:
    """The folder of bases that the processes of a run share, or a new one."""
    return Path(os.environ.get("TEST_BASES_FOLDER") or new_folder())


def make_machine_base(new_folder: Callable[[], Path]) -> MadeBase:
    folder = bases_folder(new_folder)
    store = DiskStore(folder / "disks")
    base = managed_base("debian-12-x86", "machine")
    assert base is not None
    lines: list[str] = []
    disk = MachineBases(store, folder=folder / "bases").managed(base, on_line=lines.append)
    return MadeBase(disk, store, folder, lines)


def launch(
    tmp_path: Path,
    disk: Path,
    *,
    seconds: float = 60.0,
    cancellation: Cancellation | None = None,
    limits: ResourceLimits | None = None,
) -> None:
    MachineInstance.launch(
        tmp_path / "machines/dead-build", disk,
        options=MachineOptions(cpus=1, memory_mb=64, boot_seconds=seconds, entry="credentials"),
        accelerator=Accelerator(tmp_path, wanted="tcg"), cancellation=cancellation, limits=limits,
    )  # fmt: skip


def launch_with_user_data(
    folder: Path, base: MadeBase, user_data: bytes, lines: list[str], *, speed: float = 1
) -> MachineInstance:
    """A machine of a build phase on the base, with user data; its clock runs so many times as fast as ours."""
    clock = Timer(now=lambda: speed * time.monotonic(), sleep=lambda seconds: time.sleep(seconds / speed))
    options = MachineOptions(user_data=user_data, fast_boot=True, boot_seconds=900 * speed)
    return MachineInstance.launch(
        folder / "machines" / "web", base.disk.path, options=options,
        accelerator=Accelerator(folder / "machines"), on_line=lines.append, timer=clock,
    )  # fmt: skip
