"""Where `component run` runs: this computer, a container, a machine.

<data-dir>/authoring/               apart from the server's own, so that neither sweeps the other's
  containers of this command        component-<process id>
  machines/component-<process id>   and a copy of the disk, when it is no managed base
<data-dir>/bases, oci, disks        shared with the server
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from imagesmith.artifacts.bases import Bases, ParentError
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.cli.context import CommandFailed, settings_of
from imagesmith.cli.disks import own_machines, used_disk
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.instances.machine.metadata import InstanceFacts
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.managed.bases import managed_base
from imagesmith.processes import Cancellation
from imagesmith.workflows.instances import instance_id

Say = Callable[[str], None]

_OURS = re.compile(r"component-([0-9]+)\Z")


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
    with ExitStack() as stack:
        try:
            instance = launch(stack, data_dir, reference, say, cancellation)
        except (StorageError, ParentError, InstanceError) as error:
            raise CommandFailed(str(error), "see: imagesmith doctor") from error
        stack.callback(instance.close)
        yield instance


def _container(_stack: ExitStack, data_dir: Path, reference: str, say: Say, cancellation: Cancellation) -> Instance:
    storage = ContainerStorage.for_data_dir(data_dir / "authoring")
    storage.sweep(_is_running)
    image = _image(data_dir, storage, reference, say, cancellation)
    return ContainerInstance.launch(storage, image, name=f"component-{os.getpid()}", cancellation=cancellation)


def _machine(stack: ExitStack, data_dir: Path, reference: str, say: Say, cancellation: Cancellation) -> Instance:
    """A machine on the disk of a managed base, of an AMI, or on a raw or qcow2 file that cloud-init can enter."""
    settings = settings_of(data_dir)
    place = own_machines(settings)
    disk, entry = stack.enter_context(used_disk(place, settings, reference, say=say, cancellation=cancellation))
    name = f"component-{os.getpid()}"
    facts = InstanceFacts(instance_id(name, ""), settings.account, settings.region)
    options = replace(place.options(), entry=entry, quick=True, facts=facts)
    return place.launch(name, disk.path, options=options, cancellation=cancellation, on_line=say)


def _is_running(name: str) -> bool:
    """Whether the process that a container is named for still lives."""
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
