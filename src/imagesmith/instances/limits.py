"""Limits of the resources of a build, and the control groups that enforce them.

    v1   /sys/fs/cgroup/{pids,memory}/<own group>/imagesmith-<name>/
    v2   /sys/fs/cgroup/imagesmith/<name>/         the limits
                                          main/    the processes: on v2, only leaves may hold any

A limit that this machine cannot enforce is named in `missing`, in words; no limit is dropped silently.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagesmith.instances.timer import SYSTEM_TIMER, Timer

_CGROUP = Path("/sys/fs/cgroup")
_MIB = 1024 * 1024
_REMOVAL_SECONDS = 5.0
_LEAF = "main"
_THAWING = {"cgroup.freeze": "0", "freezer.state": "THAWED"}
"""The file that thaws a group, and the content to write, in v2 and in v1."""


@dataclass(frozen=True, kw_only=True)
class ResourceLimits:
    """Bounds of one instance or Dockerfile build; all its processes together, unless said otherwise."""

    processes: int = 4096
    memory_mb: int = 4096
    file_mb: int = 16384
    """Size of one file."""
    open_files: int = 65536
    """Per process."""
    free_disk_mb: int = 512
    """Megabytes that must remain free where the layers are kept; with less, the instance is ended."""


@dataclass(frozen=True)
class ControlGroups:
    """The groups of one instance; a process joins by writing itself into each `cgroup.procs`."""

    folders: tuple[Path, ...]
    """Folders that limits are written to."""
    missing: tuple[str, ...]
    leaf: str = ""
    """Path below each folder of the group that processes join."""

    @property
    def entrances(self) -> tuple[Path, ...]:
        """The folders whose `cgroup.procs` a process writes itself to."""
        return tuple(folder / self.leaf for folder in self.folders)

    def thaw(self) -> None:
        """Thaw the frozen processes of the groups: a frozen process cannot be killed (v1)."""
        for folder in self.folders:
            thaw_group(folder)

    def remove(self, *, timer: Timer = SYSTEM_TIMER) -> None:
        """Remove the groups and kill the remaining processes; the kernel may need a moment to end them."""
        until = timer.now() + _REMOVAL_SECONDS
        for folder in self.folders:
            while not remove_group(folder) and timer.now() < until:
                end_group(folder)
                timer.sleep(0.01)

    def out_of_memory(self) -> int:
        """The number of processes that the memory limit has killed."""
        for folder in self.folders:
            for name, key in (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")):
                with contextlib.suppress(OSError, ValueError):
                    for line in (folder / name).read_text().splitlines():
                        word, _, count = line.partition(" ")
                        if word == key:
                            return int(count)
        return 0


def make_groups(name: str, limits: ResourceLimits, *, mount: Path = _CGROUP) -> ControlGroups:
    """Make the groups of an instance, as far as this machine allows."""
    if (mount / "cgroup.controllers").exists():
        return _make_v2(name, limits, mount)
    return _make_v1(name, limits, mount)


def remove_group(folder: Path) -> bool:
    """Remove a group with all groups below it; False if a process in it still lives."""
    try:
        for folder_path, _, _ in os.walk(folder, topdown=False):
            Path(folder_path).rmdir()
    except OSError:
        return False
    return True


def end_group(folder: Path) -> None:
    """Kill every process of a group and of the groups below it, also frozen ones; some may need a second call."""
    with contextlib.suppress(OSError):
        (folder / "cgroup.kill").write_text("1")  # v2, from Linux 5.14
    thaw_group(folder)
    for pid in _members(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def thaw_group(folder: Path) -> None:
    """Thaw a group, the groups below it, and every freezer group that holds one of their processes (v1)."""
    for folder_path, _, names in os.walk(folder):
        for name in _THAWING.keys() & set(names):
            _write(Path(folder_path, name), _THAWING[name])
    for freezer in {freezer for pid in _members(folder) for freezer in _freezers(pid)}:
        _write(freezer / "freezer.state", "THAWED")


def _members(folder: Path) -> set[int]:
    """The processes of a group and of all groups below it; 0 stands for a process that this one cannot see."""
    found: set[int] = set()
    for folder_path, _, _ in os.walk(folder):
        with contextlib.suppress(OSError, ValueError):
            found |= {int(word) for word in Path(folder_path, "cgroup.procs").read_text().split()}
    return found - {0}


def _freezers(pid: int) -> set[Path]:
    """The freezer groups of the threads of a process, with those above them; never a group of this process."""
    ours = Path(_groups_of(Path("/proc/self/cgroup")).get("freezer", "/"))
    found: set[Path] = set()
    try:
        records = list(Path(f"/proc/{pid}/task").glob("*/cgroup"))
    except OSError:
        return found  # it ended after its group was read
    for record in records:
        group = Path(_groups_of(record).get("freezer", "/"))
        found |= {group_path for group_path in (group, *group.parents) if not ours.is_relative_to(group_path)}
    return {_CGROUP / "freezer" / group_path.relative_to("/") for group_path in found}


def _write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        path.write_text(text)


def leftover_groups(prefix: str, *, mount: Path = _CGROUP) -> tuple[Path, ...]:
    """Groups whose name starts with `prefix`, of this process or of one that was killed."""
    return (
        *find_groups(lambda name: name.startswith(f"imagesmith-{prefix}"), mount=mount),
        *(mount / "imagesmith").glob(f"{prefix}*"),
    )


def find_groups(is_wanted: Callable[[str], bool], *, mount: Path = _CGROUP) -> tuple[Path, ...]:
    """The groups of any controller with such a name; other groups may appear and vanish during the search."""
    # Path.glob fails when a folder vanishes between its listing and its reading, os.walk skips it
    return tuple(
        Path(folder) / name
        for controller in sorted(mount.iterdir())
        for folder, names, _ in os.walk(controller)
        for name in names
        if is_wanted(name)
    )


def _make_v1(name: str, limits: ResourceLimits, mount: Path) -> ControlGroups:
    own = _groups_of(Path("/proc/self/cgroup"))
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


def _make_v2(name: str, limits: ResourceLimits, mount: Path) -> ControlGroups:
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
    return ControlGroups((folder,), tuple(missing), leaf=_LEAF)


def _groups_of(record: Path) -> dict[str, str]:
    """Controller -> the group of the process or thread whose `cgroup` file this is (v1); empty after its end."""
    groups: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in record.read_text().splitlines():
            _, names, path = line.split(":", 2)
            groups |= dict.fromkeys(names.split(","), path)
    return groups
