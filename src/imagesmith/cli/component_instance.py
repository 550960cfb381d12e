"""The instance of `component run`: this computer, a container, a machine.

<data-dir>/authoring/               see authoring.py
  machines/component-<process id>   and a copy of the disk, unless it is a managed base
<data-dir>/bases, oci, disks        shared with the server
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from imagesmith.artifacts.bases import ParentError
from imagesmith.artifacts.storage import StorageError
from imagesmith.builds.instances import instance_id
from imagesmith.cli.authoring import OnLine, authoring_image, authoring_storage, instance_name
from imagesmith.cli.context import CommandFailed, settings_of
from imagesmith.cli.disks import own_machines, used_disk
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.instances.machine.metadata import GuestMetadata
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.processes import Cancellation


class RestartNeeded(BaseException):
    """A step requires a restart of this computer; its progress is saved.

    A BaseException: it ends the run, and must not be caught as a failure of the step.
    """


class RestartedHost(HostInstance):
    """This computer, for a run with a saved state: the caller of the command restarts the computer."""

    def reboot(self) -> None:
        raise RestartNeeded


@contextmanager
def open_instance(
    target: str, data_dir: Path, *, restarts: bool, on_line: OnLine, cancellation: Cancellation
) -> Iterator[Instance]:
    """The instance of `--on`, removed afterwards. With `restarts`, this computer may be restarted.

    Raises CommandFailed.
    """
    kind, _, reference = target.partition(":")
    if kind == "host":
        yield (RestartedHost if restarts else HostInstance)(Path.cwd(), cancellation=cancellation)
        return
    launch = {"container": _container, "machine": _machine}.get(kind)
    if launch is None or not reference:
        hint = (
            "write --on host, --on container:debian-x86-12, --on container:registry/name:tag, or --on machine:DISK"
        )
        raise CommandFailed(f"'{target}' is not a target to run on", hint)
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
    storage = authoring_storage(stack, data_dir)
    image = authoring_image(data_dir, storage, reference, on_line=on_line, cancellation=cancellation)
    return ContainerInstance.launch(storage, image, name=instance_name(), cancellation=cancellation)


def _machine(
    stack: ExitStack, data_dir: Path, reference: str, on_line: OnLine, cancellation: Cancellation
) -> Instance:
    """A machine on the disk of a managed base, of an AMI, or on a raw or qcow2 file with cloud-init."""
    settings = settings_of(data_dir)
    machines = own_machines(settings)
    disk, entry = stack.enter_context(
        used_disk(machines, settings, reference, on_line=on_line, cancellation=cancellation)
    )
    name = instance_name()
    values = GuestMetadata(instance_id=instance_id(name, ""), account=settings.account, region=settings.region)
    options = replace(machines.options(), entry=entry, fast_boot=True, metadata=values)
    return machines.launch(name, disk.path, options=options, cancellation=cancellation, on_line=on_line)
