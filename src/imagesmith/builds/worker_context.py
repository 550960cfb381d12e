"""The worker context: storage, layout, bases, records, logs of a worker; one per data directory."""

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
from imagesmith.artifacts.removals import removing_now
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.build_logs.logs import BuildLog, log_path, step_log_path
from imagesmith.build_logs.shared_logs import LogSender
from imagesmith.builds.disk_space import EmergencyDiskSpace
from imagesmith.builds.execution_messages import ExecutionMessages
from imagesmith.builds.executions import ExecutionRecords
from imagesmith.builds.inspection_records import InspectionRecords
from imagesmith.builds.instances import Instances
from imagesmith.builds.outcomes import BuildOutcomes
from imagesmith.builds.patience import RunPatience
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.stores import open_disks, open_exchange, open_layout, s3_config
from imagesmith.components.services import S3Config
from imagesmith.instances.limits import ControlGroups, ResourceLimits, leftover_groups
from imagesmith.instances.machine.machine_factory import MachineFactory
from imagesmith.instances.orphans import end_orphans
from imagesmith.layers.layer_cache import UNUSED_SECONDS, LayerCache
from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings
from imagesmith.store.runs import Fence
from imagesmith.values.names import sha256_hex

_UNUSED_IMAGE_SECONDS = 8 * 86400.0
ROLES = ("before", "after")
"""Roles of a build's working containers besides its instances; `<build id>-<role>` is the name of each."""


@dataclass(frozen=True)
class WorkerContext:
    """The tools of a worker."""

    settings: Settings
    records: ImageRecords
    storage: ContainerStorage
    layout: OciLayout
    bases: Bases
    disks: DiskStore
    machine_bases: MachineBases
    overlays: OverlayCache
    layer_cache: LayerCache
    machines: MachineFactory
    instances: Instances
    reserve: EmergencyDiskSpace
    clock: Callable[[], datetime]
    exchange: Exchange | None = None
    """The exchange with the store that the hosts share; None without one."""
    worker: str = ""
    """The name of this worker, if several share the database."""
    sender: LogSender | None = None
    """Puts logs into the shared store."""
    fence: Fence | None = None
    """The right to write for one run; None with a single process."""
    patience: RunPatience | None = None
    """The waits of the run that these tools are for."""

    @classmethod
    def open(
        cls, settings: Settings, records: ImageRecords, clock: Callable[[], datetime], *, worker: str = ""
    ) -> WorkerContext:
        """Open or create the folders of the data directory. Raises StorageError, SharedStoreError."""
        storage = ContainerStorage.for_data_dir(settings.data_dir)
        exchange = open_exchange(settings)
        layout = open_layout(settings, exchange)
        bases = Bases(
            storage, layout, folder=settings.data_dir / "bases", debian_mirror=settings.debian_mirror,
            max_age_seconds=settings.builds.base_max_age_days * 86400, now=time.time,
        )  # fmt: skip
        disks = open_disks(settings, exchange)
        machine_bases = MachineBases(
            disks, folder=settings.data_dir / "bases", debian_mirror=settings.debian_mirror,
            max_age_seconds=settings.builds.base_max_age_days * 86400,
        )  # fmt: skip
        overlays = OverlayCache(
            settings.data_dir / "overlays", bytes_limit=settings.machines.cache_mb * 1024**2,
            seconds_limit=settings.machines.cache_max_age_hours * 3600.0,
            now=lambda: clock().timestamp(),
        )  # fmt: skip
        layer_cache = storage.layer_cache(
            bytes_limit=settings.builds.cache_mb * 1024**2, seconds_limit=UNUSED_SECONDS,
            now=lambda: clock().timestamp(),
        )  # fmt: skip
        machines = MachineFactory.of(settings, limits=limits_of(settings))
        instances = Instances(records.database, storage, limits_of(settings), machines=machines, worker=worker)
        reserve = EmergencyDiskSpace(settings.data_dir)
        return cls(
            settings=settings, records=records, storage=storage, layout=layout, bases=bases, disks=disks,
            machine_bases=machine_bases, overlays=overlays, layer_cache=layer_cache, machines=machines,
            instances=instances, reserve=reserve, clock=clock, exchange=exchange, worker=worker,
            sender=LogSender(exchange.store, settings.data_dir / "logs", worker) if exchange and worker else None,
        )  # fmt: skip

    def under(self, image_arn: str, *, fence: Fence | None, pause: Callable[[], None]) -> WorkerContext:
        """These tools for one run, which waits during an outage of the database; `pause` raises to end the run.

        With a fence every write checks in its own transaction that the run was not taken over.
        """

        def on_line(line: str) -> None:
            with self.log(image_arn) as log:
                log.line("workflow", line)

        patience = RunPatience(pause, on_line)
        database = self.records.database.patient(patience)
        if fence is not None:
            database = database.guarded(fence.check)
        records, instances = self.records.with_database(database), self.instances.with_database(database)
        return replace(self, records=records, instances=instances, fence=fence, patience=patience)

    def is_waiting(self) -> bool:
        """Whether the run waits for the database."""
        return self.patience is not None and self.patience.is_waiting

    def check_fence(self) -> None:
        """Check that the run was not taken over, before any effect that is visible outside. Raises FenceLost."""
        if self.fence is not None:
            self.records.database.query(self.fence.check)

    def release_local(self, plan: BuildPlan, execution: str = "") -> None:
        """Remove local resources of a run that another worker took over; the rows belong to that worker."""
        self.instances.release_local(plan.image_arn, execution)
        if not execution:
            self._remove_working_containers(plan)

    @property
    def limits(self) -> ResourceLimits:
        return limits_of(self.settings)

    @property
    def outcomes(self) -> BuildOutcomes:
        return BuildOutcomes(self.records.database)

    @property
    def inspections(self) -> InspectionRecords:
        return InspectionRecords(self.records.database, self.clock)

    def executions(self, image_arn: str) -> ExecutionRecords:
        return ExecutionRecords(self.records.database, image_arn, self.clock)

    def messages(self, image_arn: str) -> ExecutionMessages:
        return ExecutionMessages(self.records.database, image_arn, self.clock)

    @property
    def shared_url(self) -> str:
        """The URL of the store that the hosts share; empty without one."""
        return "" if self.exchange is None else self.exchange.store.url

    @property
    def s3(self) -> S3Config:
        return s3_config(self.settings)

    @contextmanager
    def log(self, image_arn: str, *, execution: str = "", step: str = "") -> Iterator[BuildLog]:
        """The log of a build; with a step, the lines also go to the log of the step."""
        copy = BuildLog(self.step_log(image_arn, execution, step), self.clock) if step else None
        log = BuildLog(log_path(self.settings.data_dir / "logs", image_arn), self.clock, copy=copy)
        try:
            yield log
        finally:
            log.close()

    def step_log(self, image_arn: str, execution: str, step: str) -> Path:
        return step_log_path(self.settings.data_dir / "logs", image_arn, execution, step)

    def remove_leftovers(self) -> None:
        """Remove the leftovers of a process that died; called before any build begins.

        Everything that a start deletes is named here; instances/leftovers.py is for commands without a server.
        """
        end_orphans()
        ControlGroups(leftover_groups(f"{self.storage.key}-"), ()).remove()
        self.layer_cache.trim()
        self.storage.remove_leftovers(self.instances.suspended(), forget_before=time.time() - _UNUSED_IMAGE_SECONDS)
        self.machines.remove_leftovers(self.instances.suspended())
        self.disks.remove_leftovers()
        self.overlays.trim()
        with removing_now(self.settings.data_dir) as possible:
            if possible:
                self.layout.collect_garbage()

    def clear(self, plan: BuildPlan, *, keep: bool) -> list[str]:
        """Remove the containers of a build that ended; with `keep` its instances stay; returns their ids."""
        kept = []
        for instance in self.instances.of(plan.image_arn):
            if keep and self.instances.keep(instance.id, image_arn=plan.image_arn):
                kept.append(instance.id)
            elif not keep:
                self.instances.terminate(instance.id, image_arn=plan.image_arn)
        self._remove_working_containers(plan)
        self._forget_images()
        return kept

    def _forget_images(self) -> None:
        """Forget what builds have left in the storage, also killed ones; a run that waits does so for a week."""
        self.storage.forget_images(before=time.time() - _UNUSED_IMAGE_SECONDS)

    def _remove_working_containers(self, plan: BuildPlan) -> None:
        names = {instance_name(plan, role) for role in ROLES}
        for name in names.intersection(self.storage.containers()):
            self.storage.remove(name)

    def how_to_enter(self, instance: str) -> tuple[str, ...]:
        """Lines for users: how to enter a kept instance, and how to remove it."""
        disk = self.machines.folder / instance / "root.qcow2"
        enter, remove = f"imagesmith ami boot {disk}", f"rm -r {disk.parent}"
        warnings: tuple[str, ...] = ()
        if not disk.exists():
            enter, remove = self.storage.how_to_enter(instance)
            warnings = (_UNSEALED,)
        kept = f"the instance {instance} is kept; enter it with: {enter}"
        return (kept, *warnings, f"remove it with: {remove}")

    def close(self) -> None:
        if self.sender is not None:
            self.sender.close()
        self.instances.close()
        self.storage.close()


_UNSEALED = (
    "warning: that command runs programs of the image as root of this machine, with its network and outside the "
    "sandbox; only look at files of an image that you do not trust"
)


def limits_of(settings: Settings) -> ResourceLimits:
    builds = settings.builds
    return ResourceLimits(processes=builds.processes, memory_mb=builds.memory_mb, free_disk_mb=builds.free_disk_mb)


def instance_name(plan: BuildPlan, role: str) -> str:
    """The name of a working container, the same for every attempt, so that a new attempt replaces leftovers."""
    return f"{sha256_hex(plan.image_arn)[:16]}-{role}"
