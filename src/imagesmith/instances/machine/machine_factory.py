"""Starts the machines of one data directory, with the hardware of their instance types.

machines/
  accelerator.json      the verdict about KVM on this host
  <build id>-<role>/    one folder per running machine
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith.artifacts.storage import storage_key
from imagesmith.instances.limits import ControlGroups, ResourceLimits, leftover_groups
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.processes import Cancellation
from imagesmith.settings import InstanceType, Machines, Settings

if TYPE_CHECKING:
    from imagesmith.instances.machine.instance import MachineInstance


@dataclass(frozen=True)
class MachineFactory:
    """Starts machines, each in a folder of its own."""

    folder: Path
    machines: Machines
    instance_types: Mapping[str, InstanceType]
    limits: ResourceLimits

    @classmethod
    def of(
        cls, settings: Settings, *, folder: Path | None = None, limits: ResourceLimits | None = None
    ) -> MachineFactory:
        """The factory of a data directory; `folder` separates its machines from the server's."""
        default = ResourceLimits(free_disk_mb=settings.builds.free_disk_mb)
        where = folder or settings.data_dir / "machines"
        return cls(where, settings.machines, settings.instance_types, limits or default)

    @property
    def accelerator(self) -> Accelerator:
        return Accelerator(self.folder, wanted=self.machines.accelerator)

    def type_of(self, instance_types: Sequence[str]) -> str:
        """The first type that the settings define, else the first type; empty if there is none."""
        known = (name for name in instance_types if name in self.instance_types)
        return next(known, instance_types[0] if instance_types else "")

    def knows(self, instance_type: str) -> bool:
        """Whether the settings define a type."""
        return instance_type in self.instance_types

    def options(self, instance_types: Sequence[str] = ()) -> MachineOptions:
        """The hardware of the first instance type that the settings define, else their default."""
        known = self.instance_types.get(self.type_of(instance_types))
        return MachineOptions(
            cpus=known.cpus if known else self.machines.cpus,
            memory_mb=known.memory_mb if known else self.machines.memory_mb,
            boot_seconds=self.machines.boot_timeout_seconds,
        )

    def launch(
        self,
        name: str,
        disk: Path,
        *,
        options: MachineOptions,
        cancellation: Cancellation | None = None,
        on_line: Callable[[str], None] = lambda _: None,
        deferred: bool = False,
    ) -> MachineInstance:
        """Boot an overlay of a disk; see MachineInstance.launch."""
        # loaded late, by cli/startup.py: a server needs the factory when it starts, and QEMU's client only to build
        from imagesmith.instances.machine.instance import MachineInstance

        return MachineInstance.launch(
            self.folder / name, disk, options=options, accelerator=self.accelerator, limits=replace(self.limits),
            cancellation=cancellation, on_line=on_line, deferred=deferred,
        )  # fmt: skip

    def remove(self, name: str) -> None:
        """Remove the folder of a machine that does not run; does nothing if there is none."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def remove_leftovers(self, alive: Callable[[str], bool] | Iterable[str] = ()) -> list[str]:
        """Remove folders and control groups of machines whose process (and so QEMU) has ended; returns the names
        of the folders."""
        keep = alive if callable(alive) else frozenset(alive).__contains__
        prefix = f"{storage_key(self.folder)}-"
        groups = [group for group in leftover_groups(prefix) if not keep(group.name.partition(prefix)[2])]
        ControlGroups(tuple(groups), ()).remove()
        if not self.folder.is_dir():
            return []
        gone = [folder for folder in self.folder.iterdir() if folder.is_dir() and not keep(folder.name)]
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)
        return sorted(folder.name for folder in gone)
