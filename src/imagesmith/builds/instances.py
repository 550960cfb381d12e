"""The instances of the builds on this worker, by the id in the output of a launching step.

    launch --> attached (a sandbox runs; programs of one step keep running in the next)
                  |  rest()                    keep()
                  v                              v
               suspended (stored; no sandbox) ... kept for a person, after the build
                  |  use()
                  v
               attached again, also by another process

An instance that was attached when its process died is gone: the effects of half a command are unknown, and files of
the sandbox may be left in it. So the clean-up at the start removes every instance that is not suspended.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.machine_factory import MachineFactory
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation
from imagesmith.store import instances as rows
from imagesmith.store.database import Database
from imagesmith.store.instances import StoredInstance
from imagesmith.store.patience import persistent
from imagesmith.values.arn import Arn
from imagesmith.values.names import sha256_hex

if TYPE_CHECKING:
    from imagesmith.instances.machine.instance import MachineInstance

    Running = ContainerInstance | MachineInstance
    """An attached instance."""

_ID_DIGITS = 17


class InstanceGone(Exception):
    """The process of an instance died, and the instance with it: the run starts over."""


def instance_id(execution: str, step: str) -> str:
    """`i-<17 hexadecimal digits>`; the same for every attempt, so that a new attempt replaces the leftovers."""
    return f"i-{sha256_hex(f'{execution}#{step}')[:_ID_DIGITS]}"


class Instances:
    """Thread-safe; a build uses an instance from one thread at a time."""

    def __init__(
        self,
        database: Database,
        storage: ContainerStorage,
        limits: ResourceLimits,
        *,
        machines: MachineFactory,
        worker: str = "",
    ) -> None:
        """`worker`: the name of this worker, if several share the database."""
        self._worker = worker
        self._machines = machines
        self.database = database
        self._storage = storage
        self._limits = limits
        self._lock = threading.Lock()
        self._attached: dict[str, Running] = {}
        self._owners: dict[str, tuple[str, str]] = {}
        """Attached instance -> its build and run."""

    def with_database(self, database: Database) -> Instances:
        """These instances, whose rows go through another view of the database."""
        other = copy.copy(self)
        other.database = database
        return other

    def launch(
        self, id: str, image_id: str, *, image_arn: str, execution: str, cancellation: Cancellation,
        network: NetworkKind = "outbound", rests: bool = False,
    ) -> ContainerInstance:  # fmt: skip
        """Start an instance, which replaces an earlier one with this id; one that `rests` starts its sandbox with
        its first command. Raises InstanceError, Cancelled."""
        self.terminate(id, image_arn=image_arn)
        instance = ContainerInstance.launch(
            self._storage, image_id, name=id, network=network, limits=self._limits, cancellation=cancellation,
            rests=rests,
        )  # fmt: skip
        self._note(id, instance, image_arn=image_arn, execution=execution)
        return instance

    def launch_machine(
        self,
        id: str,
        disk: Path,
        *,
        options: MachineOptions,
        image_arn: str,
        execution: str,
        cancellation: Cancellation,
        on_line: Callable[[str], None],
        deferred: bool = False,
    ) -> MachineInstance:
        """Boot a machine, which replaces an earlier one with this id; `deferred`: boot it for its first command.

        Raises InstanceError, Cancelled.
        """
        self.terminate(id, image_arn=image_arn)
        machine = self._machines.launch(
            id, disk, options=options, cancellation=cancellation, on_line=on_line, deferred=deferred
        )
        self._note(id, machine, image_arn=image_arn, execution=execution)
        return machine

    def launch_folder(
        self, id: str, fill: Callable[[Path], None], *, image_arn: str, execution: str, cancellation: Cancellation
    ) -> ContainerInstance:
        """Start a container on the root file system of a disk, which `fill` writes into its empty root.

        Raises InstanceError, Cancelled.
        """
        self.terminate(id, image_arn=image_arn)
        self._storage.remove(id)
        try:
            self._storage.create(id, "scratch")
            fill(self._storage.mount(id))
            instance = ContainerInstance.attach(
                self._storage, id, limits=self._limits, cancellation=cancellation, own_names=True
            )
        except BaseException:
            self._storage.remove(id)
            raise
        self._note(id, instance, image_arn=image_arn, execution=execution)
        return instance

    def suspend_container(self, id: str, *, image_arn: str) -> Path:
        """End the processes of a container and return its root, without files of the sandbox."""
        if not self.keep(id, image_arn=image_arn):
            raise InstanceError(f"{id} is not a running instance of this build; it was ended or never launched")
        return self._storage.mount(id)

    def _note(self, id: str, instance: Running, *, image_arn: str, execution: str) -> None:
        with self._lock:
            self._attached[id] = instance
            self._owners[id] = (image_arn, execution)
        self._put(StoredInstance(id, image_arn, execution, worker=self._worker))

    def use(
        self, id: str, *, image_arn: str, cancellation: Cancellation, own_names: bool = False,
        network: NetworkKind = "outbound",
    ) -> Running:  # fmt: skip
        """The instance, ready for commands that end with `cancellation`; `own_names`: it comes from launch_folder.

        Raises InstanceError for an id without an instance of this build, InstanceGone.
        """
        with self._lock:
            instance = self._attached.get(id)
        if instance is not None:
            instance.use(cancellation)
            return instance
        known = self._find(id)
        if known is None or known.image_arn != image_arn:
            raise InstanceError(f"{id} is not a running instance of this build; it was ended or never launched")
        elsewhere = known.worker not in ("", self._worker)
        if elsewhere or not known.suspended or id not in self._storage.containers():
            raise InstanceGone(id)
        self._set_suspended(known, False)
        instance = ContainerInstance.attach(
            self._storage, id, network=network, limits=self._limits, cancellation=cancellation,
            own_names=own_names,
        )  # fmt: skip
        with self._lock:
            self._attached[id] = instance
            self._owners[id] = (known.image_arn, known.execution_id)
        return instance

    def suspend(self, image_arn: str, execution: str) -> None:
        """End the processes in the containers of a run, so that the containers outlive this process.

        Machines keep running instead: their memory cannot be stored. If this process ends, their run starts over.
        """
        for known in self.of(image_arn, execution):
            instance = self._attached.get(known.id)
            if isinstance(instance, ContainerInstance):
                self._pop(known.id)
                instance.detach()
                self._set_suspended(known, True)

    def keep(self, id: str, *, image_arn: str) -> bool:
        """Keep an instance for inspection by a person; returns False if it is gone."""
        known = next((item for item in self.of(image_arn) if item.id == id), None)
        if known is None:
            return False
        instance = self._pop(id)
        if instance is not None:
            instance.detach()
        self._set_suspended(known, True)
        return True

    def terminate(self, id: str, *, image_arn: str) -> bool:
        """Remove an instance of a build with its contents; returns False without one. Raises StorageError."""
        instance = self._pop(id)
        if instance is not None:
            instance.close()
        known = self._find(id)
        if known is None or known.image_arn != image_arn:
            return instance is not None
        if instance is None:
            self._storage.remove(id)
            self._machines.remove(id)
        self._forget(id, image_arn)
        return True

    @persistent
    def of(self, image_arn: str, execution: str = "") -> list[StoredInstance]:
        """The instances of a build, or of one of its runs."""
        with self.database.read() as tx:
            found = rows.instances_of(tx, image_arn)
        return [item for item in found if execution in ("", item.execution_id)]

    @persistent
    def suspended(self) -> list[str]:
        """Ids of instances that outlive a process; see the module's docstring."""
        with self.database.read() as tx:
            return rows.suspended_instances(tx, self._worker)

    def release_local(self, image_arn: str, execution: str = "") -> None:
        """Remove attached instances of a build that another worker took over; the rows belong to that worker."""
        with self._lock:
            ids = [id for id, (image, run) in self._owners.items() if image == image_arn and execution in ("", run)]
        self._close(ids)

    def close(self) -> None:
        """Remove attached instances: other processes cannot use them."""
        self._close(list(self._attached))

    def _close(self, ids: Sequence[str]) -> None:
        for id in ids:
            instance = self._pop(id)
            if instance is not None:
                instance.close()

    def _pop(self, id: str) -> Running | None:
        with self._lock:
            self._owners.pop(id, None)
            return self._attached.pop(id, None)

    @persistent
    def _find(self, id: str) -> StoredInstance | None:
        with self.database.read() as tx:
            return rows.get_instance(tx, id)

    @persistent
    def _put(self, instance: StoredInstance) -> None:
        with self.database.write(_scope(instance.image_arn)) as tx:
            rows.put_instance(tx, instance)

    @persistent
    def _forget(self, id: str, image_arn: str) -> None:
        with self.database.write(_scope(image_arn)) as tx:
            rows.forget_instance(tx, id)

    @persistent
    def _set_suspended(self, known: StoredInstance, suspended: bool) -> None:
        with self.database.write(_scope(known.image_arn)) as tx:
            rows.set_suspended(tx, known.id, suspended)


def _scope(image_arn: str) -> str:
    return Arn.parse(image_arn).scope
