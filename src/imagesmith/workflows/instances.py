"""The instances of the builds on this worker, by the id that a launching step put out.

    launch --> attached (a sandbox runs; programs of one step live on into the next)
                  |  rest()                    keep()
                  v                              v
               at rest (stored; no sandbox) ... kept for a person, after the build
                  |  use()
                  v
               attached again, also by another process

An instance that was attached when its process died is gone: what half a command did to it is not known, and files
of the sandbox may be left in it. So the sweep at the start removes every instance that is not at rest.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import Limits
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.place import MachinePlace
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation
from imagesmith.store import instances as rows
from imagesmith.store.database import Database
from imagesmith.store.instances import StoredInstance
from imagesmith.values.names import sha256_hex

_ID_DIGITS = 17

Running = ContainerInstance | MachineInstance
"""What this process works on."""


class InstanceGone(Exception):
    """The process that worked on an instance died, and the instance with it: the run begins anew."""


def instance_id(execution: str, step: str) -> str:
    """`i-<17 hexadecimal digits>`; the same at every attempt, so that a new one replaces what the last one left."""
    return f"i-{sha256_hex(f'{execution}#{step}')[:_ID_DIGITS]}"


class Instances:
    """Safe for several threads; one build uses one instance from one thread at a time."""

    def __init__(
        self,
        database: Database,
        storage: ContainerStorage,
        limits: Limits,
        *,
        machines: MachinePlace,
        worker: str = "",
    ) -> None:
        """`worker`: the name of this one, where several share the database."""
        self._worker = worker
        self._machines = machines
        self._database = database
        self._storage = storage
        self._limits = limits
        self._lock = threading.Lock()
        self._attached: dict[str, Running] = {}
        self._owners: dict[str, tuple[str, str]] = {}
        """Of what is attached: the build and its run."""

    def on(self, database: Database) -> Instances:
        """These instances, with their rows written through another view of the database."""
        other = copy.copy(self)
        other._database = database
        return other

    def launch(
        self, id: str, image_id: str, *, image_arn: str, execution: str, cancellation: Cancellation
    ) -> ContainerInstance:
        """Start an instance instead of an earlier one with this id. Raises InstanceError, Cancelled."""
        self.terminate(id, image_arn=image_arn)
        instance = ContainerInstance.launch(
            self._storage, image_id, name=id, limits=self._limits, cancellation=cancellation
        )
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
        """Boot a machine instead of an earlier one with this id; `deferred`: when its first command is to run.

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
        """Start a container on what `fill` writes into its empty root. Raises InstanceError, Cancelled."""
        self.terminate(id, image_arn=image_arn)
        self._storage.remove(id)
        try:
            self._storage.create(id, "scratch")
            fill(self._storage.mount(id))
            instance = ContainerInstance.attach(self._storage, id, limits=self._limits, cancellation=cancellation)
        except BaseException:
            self._storage.remove(id)
            raise
        self._note(id, instance, image_arn=image_arn, execution=execution)
        return instance

    def rest_one(self, id: str, *, image_arn: str) -> Path:
        """End what runs in a container and give its root, which holds nothing of the sandbox then."""
        if not self.keep(id, image_arn=image_arn):
            raise InstanceError(f"{id} is no running instance of this build; it was terminated or never launched")
        return self._storage.mount(id)

    def _note(self, id: str, instance: Running, *, image_arn: str, execution: str) -> None:
        with self._lock:
            self._attached[id] = instance
            self._owners[id] = (image_arn, execution)
        with self._database.write(_scope(image_arn)) as tx:
            rows.put_instance(tx, StoredInstance(id, image_arn, execution, worker=self._worker))

    def use(self, id: str, *, image_arn: str, cancellation: Cancellation) -> Running:
        """The instance, ready for commands that end with `cancellation`.

        Raises InstanceError for an id that no instance of this build has, InstanceGone.
        """
        with self._lock:
            instance = self._attached.get(id)
        if instance is not None:
            instance.use(cancellation)
            return instance
        with self._database.read() as tx:
            known = rows.get_instance(tx, id)
        if known is None or known.image_arn != image_arn:
            raise InstanceError(f"{id} is no running instance of this build; it was terminated or never launched")
        elsewhere = known.worker not in ("", self._worker)
        if elsewhere or not known.at_rest or id not in self._storage.containers():
            raise InstanceGone(id)
        self._set_at_rest(known, False)
        instance = ContainerInstance.attach(self._storage, id, limits=self._limits, cancellation=cancellation)
        with self._lock:
            self._attached[id] = instance
            self._owners[id] = (known.image_arn, known.execution_id)
        return instance

    def rest(self, image_arn: str, execution: str) -> None:
        """End what runs in the instances of a run, so that they outlive this process.

        A machine goes on running instead: its memory cannot be kept. Should this process end, its run begins anew.
        """
        for known in self.of(image_arn, execution):
            instance = self._attached.get(known.id)
            if isinstance(instance, ContainerInstance):
                self._pop(known.id)
                instance.detach()
                self._set_at_rest(known, True)

    def keep(self, id: str, *, image_arn: str) -> bool:
        """Leave an instance for a person to look at; False when it is gone."""
        known = next((item for item in self.of(image_arn) if item.id == id), None)
        if known is None:
            return False
        instance = self._pop(id)
        if instance is not None:
            instance.detach()
        self._set_at_rest(known, True)
        return True

    def terminate(self, id: str, *, image_arn: str) -> bool:
        """Remove an instance of a build and all it holds; False when there is none. Raises ProcessFailed."""
        instance = self._pop(id)
        if instance is not None:
            instance.close()
        with self._database.read() as tx:
            known = rows.get_instance(tx, id)
        if known is None or known.image_arn != image_arn:
            return instance is not None
        if instance is None:
            self._storage.remove(id)
            self._machines.remove(id)
        with self._database.write(_scope(image_arn)) as tx:
            rows.forget_instance(tx, id)
        return True

    def of(self, image_arn: str, execution: str = "") -> list[StoredInstance]:
        """The instances of a build, or of one of its runs."""
        with self._database.read() as tx:
            found = rows.instances_of(tx, image_arn)
        return [item for item in found if execution in ("", item.execution_id)]

    def at_rest(self) -> list[str]:
        """Ids that outlive a process; see the module text."""
        with self._database.read() as tx:
            return rows.instances_at_rest(tx, self._worker)

    def abandon(self, image_arn: str, execution: str = "") -> None:
        """Remove what is attached for a build that another worker goes on with; its rows are that worker's."""
        with self._lock:
            ids = [id for id, (image, run) in self._owners.items() if image == image_arn and execution in ("", run)]
        self._close(ids)

    def close(self) -> None:
        """Remove what is attached: nothing can be done with it after this process."""
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

    def _set_at_rest(self, known: StoredInstance, at_rest: bool) -> None:
        with self._database.write(_scope(known.image_arn)) as tx:
            rows.set_at_rest(tx, known.id, at_rest)


def _scope(image_arn: str) -> str:
    _, _, _, region, account, _ = image_arn.split(":")
    return f"{account}/{region}"
