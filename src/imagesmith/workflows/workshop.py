"""Everything a worker builds with: storage, layout, bases, records, logs; one per data directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from imagesmith.artifacts.bases import Bases
from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.machine_bases import MachineBases
from imagesmith.artifacts.overlays import OverlayCache
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.services import S3Config
from imagesmith.instances.dockerfile_build import sweep_dockerfile_builds
from imagesmith.instances.limits import ControlGroups, Limits, leftover_groups
from imagesmith.instances.machine.place import MachinePlace
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings
from imagesmith.store.runs import Fence
from imagesmith.values.names import sha256_hex
from imagesmith.workflows.executions import Executions
from imagesmith.workflows.instances import Instances
from imagesmith.workflows.logs import BuildLog, log_path, step_log_path
from imagesmith.workflows.records import Records
from imagesmith.workflows.reserve import DiskReserve, insist
from imagesmith.workflows.shared_logs import LogSender
from imagesmith.workflows.stores import open_disks, open_exchange, open_layout, s3_config

ROLES = ("before", "after")
"""What a build makes working containers for besides its instances; `<build id>-<role>` is the name of each."""


@dataclass(frozen=True)
class Workshop:
    """The tools of one worker."""

    settings: Settings
    records: Records
    storage: ContainerStorage
    layout: OciLayout
    bases: Bases
    disks: DiskStore
    machine_bases: MachineBases
    overlays: OverlayCache
    machines: MachinePlace
    instances: Instances
    reserve: DiskReserve
    clock: Callable[[], datetime]
    exchange: Exchange | None = None
    """With the store that the hosts share; None when there is none."""
    worker: str = ""
    """The name of this worker, where several share the database."""
    sender: LogSender | None = None
    """Puts logs where the other hosts find them."""
    fence: Fence | None = None
    """The right to write for one run; None where one process does everything."""

    @classmethod
    def open(
        cls, settings: Settings, records: Records, clock: Callable[[], datetime], *, worker: str = ""
    ) -> Workshop:
        """Open or make the folders of the data directory. Raises StorageError, SharedStoreError."""
        storage = ContainerStorage.for_data_dir(settings.data_dir)
        exchange = open_exchange(settings)
        layout = open_layout(settings, exchange)
        bases = Bases(
            storage,
            layout,
            folder=settings.data_dir / "bases",
            debian_mirror=settings.debian_mirror,
            max_age_seconds=settings.builds.base_max_age_days * 86400,
            now=time.time,
        )
        disks = open_disks(settings, exchange)
        machine_bases = MachineBases(
            disks, folder=settings.data_dir / "bases", debian_mirror=settings.debian_mirror,
            max_age_seconds=settings.builds.base_max_age_days * 86400,
        )  # fmt: skip
        overlays = OverlayCache(
            settings.data_dir / "overlays", bytes_limit=settings.machines.cache_mb * 1024**2,
            seconds_limit=settings.machines.cache_max_age_hours * 3600.0, now=time.time,
        )  # fmt: skip
        machines = MachinePlace.of(settings, limits=limits_of(settings))
        instances = Instances(records.database, storage, limits_of(settings), machines=machines, worker=worker)
        reserve = DiskReserve(settings.data_dir)
        return cls(
            settings, records, storage, layout, bases, disks, machine_bases, overlays, machines, instances, reserve,
            clock, exchange, worker,
            LogSender(exchange.store, settings.data_dir / "logs", worker) if exchange and worker else None,
        )  # fmt: skip

    def under(self, fence: Fence) -> Workshop:
        """These tools for one run: every write of it checks in its own transaction that the run is still ours."""
        database = self.records.database.guarded(fence.check)
        records, instances = self.records.on(database), self.instances.on(database)
        return replace(self, records=records, instances=instances, fence=fence)

    def check_fence(self, cancellation: Cancellation) -> None:
        """Before anything that is visible outside: the run must still be ours. Raises FenceLost, Cancelled."""
        fence = self.fence
        if fence is None:
            return

        def look() -> None:
            with self.records.database.read() as tx:
                fence.check(tx)

        insist(look, self.reserve, cancellation)

    def abandon(self, plan: BuildPlan, execution: str = "") -> None:
        """Remove what a run has here that another worker goes on with; its rows are that worker's."""
        self.instances.abandon(plan.image_arn, execution)
        if not execution:
            self._remove_working_containers(plan)

    @property
    def limits(self) -> Limits:
        return limits_of(self.settings)

    def executions(self, image_arn: str) -> Executions:
        return Executions(self.records.database, image_arn, self.clock)

    @property
    def s3(self) -> S3Config:
        return s3_config(self.settings)

    @contextmanager
    def log(self, image_arn: str, *, execution: str = "", step: str = "") -> Iterator[BuildLog]:
        """The log of a build; of a step of it, when both are named, which has its lines as well."""
        copy = BuildLog(self.step_log(image_arn, execution, step), self.clock) if step else None
        log = BuildLog(log_path(self.settings.data_dir / "logs", image_arn), self.clock, copy=copy)
        try:
            yield log
        finally:
            log.close()

    def step_log(self, image_arn: str, execution: str, step: str) -> Path:
        return step_log_path(self.settings.data_dir / "logs", image_arn, execution, step)

    def sweep(self) -> None:
        """Remove what a process that died left behind; called before any build begins."""
        # control groups first: the storage's sweep removes the folders that name those of Dockerfile builds
        sweep_dockerfile_builds(self.storage)
        ControlGroups(leftover_groups(f"{self.storage.runroot.name}-"), ()).remove()
        self.storage.sweep(self.instances.at_rest())
        self.machines.sweep(self.instances.at_rest())
        self.disks.sweep()
        self.overlays.trim()
        self.layout.collect_garbage()

    def clear(self, plan: BuildPlan, *, keep: bool) -> list[str]:
        """Remove the containers of a build that ended; with `keep` its instances stay, and their ids are given."""
        kept = []
        for instance in self.instances.of(plan.image_arn):
            if keep and self.instances.keep(instance.id, image_arn=plan.image_arn):
                kept.append(instance.id)
            elif not keep:
                self.instances.terminate(instance.id, image_arn=plan.image_arn)
        self._remove_working_containers(plan)
        return kept

    def _remove_working_containers(self, plan: BuildPlan) -> None:
        names = {instance_name(plan, role) for role in ROLES}
        for name in names.intersection(self.storage.containers()):
            self.storage.remove(name)

    def how_to_enter(self, instance: str) -> tuple[str, str]:
        """The commands that enter a kept instance, and that remove it."""
        disk = self.machines.folder / instance / "root.qcow2"
        if disk.exists():
            return f"imagesmith ami boot {disk}", f"rm -r {disk.parent}"
        tool = f"CONTAINERS_STORAGE_CONF={self.storage.root / 'storage.conf'} buildah"
        return f"{tool} run --isolation=chroot {instance} sh", f"{tool} rm {instance}"

    def close(self) -> None:
        if self.sender is not None:
            self.sender.close()
        self.instances.close()
        self.storage.close()


def limits_of(settings: Settings) -> Limits:
    builds = settings.builds
    return Limits(processes=builds.processes, memory_mb=builds.memory_mb, free_disk_mb=builds.free_disk_mb)


def instance_name(plan: BuildPlan, role: str) -> str:
    """The same name at every attempt, so that a new attempt replaces what the last one left."""
    return f"{sha256_hex(plan.image_arn)[:16]}-{role}"


def layout_reference(plan: BuildPlan) -> str:
    """What the image is called in the embedded layout; ends with the default tag (spec/api.md 5.2)."""
    return f"{plan.account}/{plan.region}/{plan.image_arn.split('/')[1]}:{plan.default_tag}"
