"""Where the machines of one data directory run, and what they get.

machines/
  accelerator.json      what was found out about KVM here
  <build id>-<role>/    one folder per running machine
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imagesmith.instances.limits import Limits
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.processes import Cancellation
from imagesmith.settings import InstanceType, Machines, Settings


@dataclass(frozen=True)
class MachinePlace:
    """Starts machines; they know each other's folders only by name."""

    folder: Path
    machines: Machines
    instance_types: Mapping[str, InstanceType]
    limits: Limits

    @classmethod
    def of(cls, settings: Settings, *, folder: Path | None = None, limits: Limits | None = None) -> MachinePlace:
        """The place of a data directory; `folder` for one apart from the server's."""
        default = Limits(free_disk_mb=settings.builds.free_disk_mb)
        where = folder or settings.data_dir / "machines"
        return cls(where, settings.machines, settings.instance_types, limits or default)

    @property
    def accelerator(self) -> Accelerator:
        return Accelerator(self.folder, wanted=self.machines.accelerator)

    def type_of(self, instance_types: Sequence[str]) -> str:
        """The first type that the settings know, else the first one; empty when there is none."""
        known = (name for name in instance_types if name in self.instance_types)
        return next(known, instance_types[0] if instance_types else "")

    def options(self, instance_types: Sequence[str] = ()) -> MachineOptions:
        """The hardware of the first instance type that the settings know, else their default."""
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
        return MachineInstance.launch(
            self.folder / name, disk, options=options, accelerator=self.accelerator, limits=replace(self.limits),
            cancellation=cancellation, on_line=on_line, deferred=deferred,
        )  # fmt: skip

    def remove(self, name: str) -> None:
        """Remove the folder of a machine that does not run; nothing happens when there is none."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def sweep(self, alive: Callable[[str], bool] | Iterable[str] = ()) -> list[str]:
        """Remove the folders of machines whose process died; their QEMU died with it. Give the names."""
        keep = alive if callable(alive) else frozenset(alive).__contains__
        if not self.folder.is_dir():
            return []
        gone = [place for place in self.folder.iterdir() if place.is_dir() and not keep(place.name)]
        for place in gone:
            shutil.rmtree(place, ignore_errors=True)
        return sorted(place.name for place in gone)
