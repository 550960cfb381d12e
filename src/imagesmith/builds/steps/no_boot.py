"""Machine images whose build components run without a machine, if a tag of the run asks for it.

    parent disk --read--> root file system in a working container --> the container's sandbox --> new disk
                          (artifacts/disk_root.py)                    components, clean-up        same boot loaders

The instance is an ordinary container, with the limits, network, end and clean-up of one. Operations that need a
running system fail as in a container: restarts, kernel modules, starting units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disk_root import open_root, repack, unpack
from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.builds import reproducible
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.machine_source import Source, planned
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.namespaces.id_maps import SIZE
from imagesmith.store.build_outcome import BuildUpdate, UnpackedDisk

_GIB = 1024**3


def is_requested(run: StepRun) -> bool:
    """Whether the instance of this step runs without a machine."""
    return run.type == "BUILD" and planned(run).no_boot


def launch(run: StepRun, source: Source, options: MachineOptions) -> Outcome:
    """Unpack the root file system of a disk into a container, and start its sandbox. Raises StepFailed."""
    if options.user_data:
        raise StepFailed("userDataOverride needs a boot: remove the tag imagesmith:no-boot or the user data")
    if options.volumes:
        run.note("warning: there are no further volumes without a machine")
    run.note("no machine starts: components run on the root file system of the disk, in a sandbox")

    def fill(folder: Path) -> None:
        with open_root(source.disk.path) as root:
            root.require_all()
            count = unpack(root, folder, ids=SIZE, cancellation=run.cancellation)
        run.note(f"unpacked {count} files of {source.disk.digest}")

    try:
        with run.timed("launch"):
            instance = run.worker_context.instances.launch_folder(
                run.own_instance, fill,
                image_arn=run.plan.image_arn, execution=run.execution, cancellation=run.cancellation,
            )  # fmt: skip
    except DiskError as error:
        raise StepFailed(f"the parent image cannot be changed without a boot: {error}") from error
    for missing in instance.unlimited:
        run.note(f"warning: {missing}")
    origin = UnpackedDisk(digest=source.disk.digest, entry=source.entry, size=options.root_gb * _GIB)
    return Outcome({"instanceId": run.own_instance}, update=BuildUpdate(origin=origin))


def make_disk(run: StepRun, inputs: Mapping[str, Any]) -> tuple[Disk, str]:
    """Make a disk of the container's root; returns it, and how to enter its machines. Raises StepFailed."""
    run.attach_container(inputs)
    origin = run.worker_context.outcomes.get(run.plan.image_arn).origin
    if origin is None:
        raise StepFailed(f"the disk of {inputs['instanceId']} is unknown")
    worker_context = run.worker_context
    try:
        parent = worker_context.disks.whole(origin.digest, cancellation=run.cancellation)
        with run.timed("image"), worker_context.disks.draft() as raw, open_root(parent.path) as root:
            folder = worker_context.instances.suspend_container(
                str(inputs["instanceId"]), image_arn=run.plan.image_arn
            )
            times = reproducible.fixed_times(run)
            if times is not None:
                reproducible.drop_files(run, folder)
            repack(root, folder, raw, size=origin.size, times=times, cancellation=run.cancellation)
            return worker_context.disks.take(raw, cancellation=run.cancellation), origin.entry
    except DiskError as error:
        raise StepFailed(str(error)) from error
