"""Where `component run` runs: this computer, a container, a machine.

<data-dir>/authoring/               apart from the server's own, so that neither sweeps the other's
  containers of this command        component-<process id>
  machines/component-<process id>   and a copy of the disk, when it is no managed base
<data-dir>/bases, oci, disks        shared with the server
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from imagesmith.artifacts.bases import Bases, ParentError
from imagesmith.artifacts.disks import DiskError, DiskStore
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.machine_bases import MachineBases
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.cli.context import CommandFailed, settings_of
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.instances.machine.place import MachinePlace
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.managed.bases import managed_base
from imagesmith.processes import Cancellation

Say = Callable[[str], None]

_OURS = re.compile(r"component-([0-9]+)(?:-disk)?\Z")


class RestartNeeded(BaseException):
    """A step asks for a restart of this computer, and what is finished has been kept.

    A BaseException: it ends the run, and is no failure that a step could have.
    """


class RestartedHost(HostInstance):
    """This computer, for a run whose state outlives it: whoever started the command restarts the computer."""

    def reboot(self) -> None:
        raise RestartNeeded


@contextmanager
def instance_place(
    place: str, data_dir: Path, *, restarts: bool, say: Say, cancellation: Cancellation
) -> Iterator[Instance]:
    """The instance of `--on`, gone afterwards. With `restarts`, this computer may be restarted.

    Raises CommandFailed.
    """
    kind, _, reference = place.partition(":")
    if kind == "host":
        yield (RestartedHost if restarts else HostInstance)(Path.cwd(), cancellation=cancellation)
        return
    if kind not in ("container", "machine") or not reference:
        hint = (
            "write --on host, --on container:debian-x86-12, --on container:registry/name:tag, or --on machine:DISK"
        )
        raise CommandFailed(f"'{place}' is no place to run on", hint)
    launch = _container if kind == "container" else _machine
    instance = None
    try:
        try:
            instance = launch(data_dir, reference, say, cancellation)
        except (StorageError, ParentError, DiskError, InstanceError) as error:
            raise CommandFailed(str(error), "see: imagesmith doctor") from error
        yield instance
    finally:
        if instance is not None:
            instance.close()
        shutil.rmtree(_copies(data_dir), ignore_errors=True)


def _machines(data_dir: Path) -> Path:
    return (data_dir / "authoring" / "machines").absolute()


def _copies(data_dir: Path) -> Path:
    """Where the disk is copied to that a machine of this command starts from."""
    return _machines(data_dir) / f"component-{os.getpid()}-disk"


def _container(data_dir: Path, reference: str, say: Say, cancellation: Cancellation) -> Instance:
    storage = ContainerStorage.for_data_dir(data_dir / "authoring")
    storage.sweep(_is_running)
    image = _image(data_dir, storage, reference, say, cancellation)
    return ContainerInstance.launch(storage, image, name=f"component-{os.getpid()}", cancellation=cancellation)


def _machine(data_dir: Path, reference: str, say: Say, cancellation: Cancellation) -> Instance:
    """A machine on the disk of a managed base, or on a raw or qcow2 file that cloud-init can enter."""
    place = MachinePlace.of(settings_of(data_dir), folder=_machines(data_dir))
    place.sweep(_is_running)
    name = f"component-{os.getpid()}"
    base = managed_base(reference, "machine")
    options = place.options()
    if base is not None:
        bases = MachineBases(DiskStore((data_dir / "disks").absolute()), folder=data_dir / "bases")
        disk = bases.managed(base, on_line=say, cancellation=cancellation)
        options = replace(options, entry="credentials")
    elif Path(reference).is_file():
        disk = DiskStore(_copies(data_dir)).take(Path(reference), cancellation=cancellation)
    else:
        raise CommandFailed(f"'{reference}' is neither a managed base for machines nor a file", "try debian-12-x86")
    return place.launch(name, disk.path, options=options, cancellation=cancellation, on_line=say)


def _is_running(name: str) -> bool:
    """Whether the process that a container or machine is named for still lives."""
    found = _OURS.match(name)
    return found is not None and Path("/proc", found[1]).exists()


def _image(data: Path, storage: ContainerStorage, reference: str, say: Say, cancellation: Cancellation) -> str:
    """The image of a managed base, a local layout or archive, or a registry reference. Raises ParentError."""
    bases = Bases(storage, OciLayout(data / "oci"), folder=data / "bases")
    base = managed_base(reference)
    if base is not None:
        return bases.managed(base, on_line=say, cancellation=cancellation).image_id
    if reference.startswith(("oci:", "oci-archive:", "docker-archive:")):
        return bases.local(reference, [Path("/")], cancellation=cancellation).image_id
    return bases.registry(reference, registry=None, cancellation=cancellation).image_id
