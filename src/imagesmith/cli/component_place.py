"""The instance of `component run`: this computer, a container, a machine.

<data-dir>/authoring/               apart from the server's, so that neither cleans up the other's
  containers of this command        component-<process id>
  machines/component-<process id>   and a copy of the disk, unless it is a managed base
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
from imagesmith.builds.instances import instance_id
from imagesmith.cli.context import CommandFailed, settings_of
from imagesmith.cli.disks import own_machines, used_disk
from imagesmith.dockerfiles.build import sweep_dockerfile_builds
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.instances.machine.metadata import InstanceFacts
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.instances.sweep import sweep_instances
from imagesmith.locks import visitor_lock
from imagesmith.managed.bases import managed_base
from imagesmith.processes import Cancellation
from imagesmith.settings import NoRegistry

OnLine = Callable[[str], None]

_OURS = re.compile(r"component-([0-9]+)\Z")


class RestartNeeded(BaseException):
    """A step requires a restart of this computer; its progress is saved.

    A BaseException: it ends the run, and must not be caught as a failure of the step.
    """


class RestartedHost(HostInstance):
    """This computer, for a run with a saved state: the caller of the command restarts the computer."""

    def reboot(self) -> None:
        raise RestartNeeded


@contextmanager
def instance_place(
    place: str, data_dir: Path, *, restarts: bool, on_line: OnLine, cancellation: Cancellation
) -> Iterator[Instance]:
    """The instance of `--on`, removed afterwards. With `restarts`, this computer may be restarted.

    Raises CommandFailed.
    """
    kind, _, reference = place.partition(":")
    if kind == "host":
        yield (RestartedHost if restarts else HostInstance)(Path.cwd(), cancellation=cancellation)
        return
    launch = {"container": _container, "machine": _machine}.get(kind)
    if launch is None or not reference:
        hint = (
            "write --on host, --on container:debian-x86-12, --on container:registry/name:tag, or --on machine:DISK"
        )
        raise CommandFailed(f"'{place}' is not a target to run on", hint)
    with ExitStack() as stack:
        try:
            instance = launch(stack, data_dir, reference, on_line, cancellation)
        except (StorageError, ParentError, InstanceError) as error:
            raise CommandFailed(str(error), "see: imagesmith doctor") from error
        stack.callback(instance.close)
        yield instance


def _container(
    stack: ExitStack, data_dir: Path, reference: str, on_line: OnLine, cancellation: Cancellation
) -> Instance:
    storage = ContainerStorage.for_data_dir(data_dir / "authoring")
    alone = stack.enter_context(
        visitor_lock(data_dir / "authoring" / "containers.lock", alone=lambda: _tidy(storage))
    )
    if not alone:
        # other processes make and mount containers: one without an owner may be theirs
        storage.remove_dead(_is_running)
    image = _image(data_dir, storage, reference, on_line, cancellation)
    return ContainerInstance.launch(storage, image, name=instance_name(), cancellation=cancellation)


def _tidy(storage: ContainerStorage) -> None:
    """Remove the remains of killed runs, while no other process uses the storage."""
    sweep_dockerfile_builds(storage)
    sweep_instances(storage)


def _machine(
    stack: ExitStack, data_dir: Path, reference: str, on_line: OnLine, cancellation: Cancellation
) -> Instance:
    """A machine on the disk of a managed base, of an AMI, or on a raw or qcow2 file with cloud-init."""
    settings = settings_of(data_dir)
    place = own_machines(settings)
    disk, entry = stack.enter_context(
        used_disk(place, settings, reference, on_line=on_line, cancellation=cancellation)
    )
    name = instance_name()
    facts = InstanceFacts(instance_id=instance_id(name, ""), account=settings.account, region=settings.region)
    options = replace(place.options(), entry=entry, fast_boot=True, metadata=facts)
    return place.launch(name, disk.path, options=options, cancellation=cancellation, on_line=on_line)


def instance_name() -> str:
    """The name of this command's instance."""
    return f"component-{os.getpid()}"


def _is_running(name: str) -> bool:
    """Whether the process in the name of a container still runs."""
    found = _OURS.match(name)
    return found is not None and Path("/proc", found[1]).exists()


def _image(
    data: Path, storage: ContainerStorage, reference: str, on_line: OnLine, cancellation: Cancellation
) -> str:
    """The image of a managed base, a local layout or archive, or a registry reference. Raises ParentError."""
    bases = Bases(storage, OciLayout(data / "oci"), folder=data / "bases")
    base = managed_base(reference)
    if base is not None:
        return bases.managed(base, on_line=on_line, cancellation=cancellation).image_id
    if reference.startswith(("oci:", "oci-archive:", "docker-archive:")):
        return bases.local(reference, [Path("/")], cancellation=cancellation).image_id
    try:
        source, registry = settings_of(data).locate(reference)
    except NoRegistry as error:
        raise ParentError(f"the image {reference} cannot be obtained: {error}") from error
    return bases.registry(source, registry=registry, cancellation=cancellation).image_id
