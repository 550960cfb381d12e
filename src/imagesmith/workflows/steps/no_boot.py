"""A machine image whose build components run without a machine: the mode that a tag of the run asks for.

    parent disk --read--> root file system in a working container --> the container's sandbox --> new disk
                          (artifacts/disk_root.py)                    components, clean-up        same boot loaders

The instance is a container like any other, so its limits, its network, its end and the sweep are a container's.
What needs a running system fails here as it does there: restarts, kernel modules, units that are to be started.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disk_root import open_root, repack, unpack
from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.machine import Source, planned
from imagesmith.workflows.steps.context import Outcome, StepRun

_GIB = 1024**3


def wanted(run: StepRun) -> bool:
    """Whether what this step is about runs without a machine."""
    return run.type == "BUILD" and planned(run).no_boot


def launch(run: StepRun, source: Source, options: MachineOptions) -> Outcome:
    """Unpack the root file system of a disk into a container, and start its sandbox. Raises StepFailed."""
    if options.user_data:
        raise StepFailed("userDataOverride needs a boot: take the tag imagesmith:no-boot away, or the user data")
    if options.volumes:
        run.say("warning: there are no further volumes without a machine")
    run.say("no machine starts: components run on the root file system of the disk, in a sandbox")

    def fill(folder: Path) -> None:
        with open_root(source.disk.path) as root:
            count = unpack(root, folder, cancellation=run.cancellation)
        run.say(f"unpacked {count} files of {source.disk.digest}")

    try:
        with run.timed("launch"):
            instance = run.shop.instances.launch_folder(
                run.own_instance, fill,
                image_arn=run.plan.image_arn, execution=run.execution, cancellation=run.cancellation,
            )  # fmt: skip
    except DiskError as error:
        raise StepFailed(f"the parent image cannot be changed without a boot: {error}") from error
    for missing in instance.unlimited:
        run.say(f"warning: {missing}")
    origin = {"digest": source.disk.digest, "entry": source.entry, "bytes": options.root_gb * _GIB}
    return Outcome({"instanceId": run.own_instance}, facts={"origin": origin})


def make_disk(run: StepRun, inputs: Mapping[str, Any]) -> tuple[Disk, str]:
    """The disk of what the container's root is now, and how machines of it let us in. Raises StepFailed."""
    run.container(inputs)
    origin = run.shop.records.outcome(run.plan.image_arn)["origin"]
    shop = run.shop
    try:
        parent = shop.disks.get(origin["digest"])
        with run.timed("image"), shop.disks.draft() as raw, open_root(parent.path) as root:
            folder = shop.instances.rest_one(str(inputs["instanceId"]), image_arn=run.plan.image_arn)
            repack(root, folder, raw, size=origin["bytes"], cancellation=run.cancellation)
            return shop.disks.take(raw, cancellation=run.cancellation), str(origin["entry"])
    except DiskError as error:
        raise StepFailed(str(error)) from error
