"""What a build may use at most, and the control groups that hold it to that.

    v1   /sys/fs/cgroup/{pids,memory}/<own group>/imagesmith-<name>/
    v2   /sys/fs/cgroup/imagesmith/<name>/         the limits
                                          main/    the processes: on v2, only leaves may hold any

A limit that this machine cannot enforce is named in `missing`, in words; nothing is silently without a bound.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MIB = 1024 * 1024
_REMOVAL_SECONDS = 5.0
_LEAF = "main"


@dataclass(frozen=True)
class Limits:
    """Bounds of one instance or Dockerfile build; all its processes together, unless said otherwise."""

    processes: int = 4096
    memory_mb: int = 4096
    file_mb: int = 16384
    """Size of one file."""
    open_files: int = 65536
    """Per process."""
    free_disk_mb: int = 512
    """What must stay free where the layers are kept; below it the instance is ended."""


@dataclass(frozen=True)
class ControlGroups:
    """The groups of one instance; a process joins by writing itself into each `cgroup.procs`."""

    folders: tuple[Path, ...]
    """What limits are written to."""
    missing: tuple[str, ...]
    leaf: str = ""
    """Below each folder, where the processes go."""
    parent: str = ""
    """The group below which runc must put its own (v2); empty where it does so by itself (v1)."""

    @property
    def entrances(self) -> tuple[Path, ...]:
        """The folders whose `cgroup.procs` a process writes itself to."""
        return tuple(folder / self.leaf for folder in self.folders)

    def remove(self) -> None:
        """Remove the groups; their processes must have been killed, and the kernel may need a moment for them."""
        until = time.monotonic() + _REMOVAL_SECONDS
        for folder in self.folders:
            while not remove_group(folder) and time.monotonic() < until:
                time.sleep(0.01)

    def out_of_memory(self) -> int:
        """How many processes the memory limit has killed so far."""
        for folder in self.folders:
            for name, key in (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")):
                with contextlib.suppress(OSError, ValueError):
                    for line in (folder / name).read_text().splitlines():
                        word, _, count = line.partition(" ")
                        if word == key:
                            return int(count)
        return 0


def make_groups(name: str, limits: Limits, *, mount: Path = _CGROUP) -> ControlGroups:
    """Make the groups of an instance, as far as this machine allows."""
    if (mount / "cgroup.controllers").exists():
        return _make_v2(name, limits, mount)
    return _make_v1(name, limits, mount)


def remove_group(folder: Path) -> bool:
    """Remove a group with all groups below it; False when something in it still lives."""
    try:
        for place, _, _ in os.walk(folder, topdown=False):
            Path(place).rmdir()
    except OSError:
        return False
    return True


def leftover_groups(prefix: str, *, mount: Path = _CGROUP) -> tuple[Path, ...]:
    """Groups whose name starts with `prefix`, of this process or of one that was killed."""
    return (
        *find_groups(lambda name: name.startswith(f"imagesmith-{prefix}"), mount=mount),
        *(mount / "imagesmith").glob(f"{prefix}*"),
    )


def find_groups(is_wanted: Callable[[str], bool], *, mount: Path = _CGROUP) -> tuple[Path, ...]:
    """The groups of any controller with such a name; groups of others come and go meanwhile."""
    # Path.glob fails when a folder vanishes between its listing and its reading, os.walk passes over it
    return tuple(
        Path(folder) / name
        for controller in sorted(mount.iterdir())
        for folder, names, _ in os.walk(controller)
        for name in names
        if is_wanted(name)
    )


def _make_v1(name: str, limits: Limits, mount: Path) -> ControlGroups:
    own = _own_groups()
    wanted = (
        ("pids", "pids.max", limits.processes, "the number of processes is not limited"),
        ("memory", "memory.limit_in_bytes", limits.memory_mb * _MIB, "memory is not limited"),
    )
    folders: list[Path] = []
    missing: list[str] = []
    for controller, setting, value, text in wanted:
        base = mount / controller / own.get(controller, "").lstrip("/")
        folder = (base if base.is_dir() else mount / controller) / f"imagesmith-{name}"
        try:
            folder.mkdir(exist_ok=True)
            (folder / setting).write_text(str(value))
        except OSError as error:
            missing.append(f"{text}: the {controller} control group cannot be used ({error.strerror})")
            with contextlib.suppress(OSError):
                folder.rmdir()
        else:
            folders.append(folder)
    return ControlGroups(tuple(folders), tuple(missing))


def _make_v2(name: str, limits: Limits, mount: Path) -> ControlGroups:
    parent = mount / "imagesmith"
    folder = parent / name
    missing: list[str] = []
    try:
        parent.mkdir(exist_ok=True)
        for group in (mount, parent):
            with contextlib.suppress(OSError):
                (group / "cgroup.subtree_control").write_text("+pids +memory")
        (folder / _LEAF).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return ControlGroups((), (f"processes and memory are not limited: no control group ({error.strerror})",))
    for setting, value in (("pids.max", limits.processes), ("memory.max", limits.memory_mb * _MIB)):
        try:
            (folder / setting).write_text(str(value))
        except OSError as error:
            missing.append(f"{setting} cannot be set in {folder} ({error.strerror})")
    with contextlib.suppress(OSError):
        (folder / "cgroup.subtree_control").write_text("+pids +memory")
    return ControlGroups((folder,), tuple(missing), leaf=_LEAF, parent=f"/{folder.relative_to(mount)}")


def _own_groups() -> dict[str, str]:
    """Controller -> the group that this process is in (v1)."""
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        groups |= dict.fromkeys(names.split(","), path)
    return groups
