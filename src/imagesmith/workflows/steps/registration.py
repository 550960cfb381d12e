"""RegisterImage: an AMI from a disk that is here already (spec/workflows.md 5.12).

Every disk of the catalog has a snapshot, `snap-` and the first 17 digits of its digest (`imagesmith ami show`). A
snapshot can be used by whoever may launch an AMI that stands for the disk. What only EC2 has is refused when it
would change how the image starts, and otherwise a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.store import amis
from imagesmith.store.amis import Ami
from imagesmith.values.names import human_size
from imagesmith.workflows.amis import may_launch
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.machine import keep_disk
from imagesmith.workflows.steps.context import Outcome, StepRun

_GIB: Final = 1024**3
_UNUSED: Final = ("enaSupport", "imdsSupport", "sriovNetSupport", "tpmSupport", "uefiData")
_REFUSED: Final = ("imageLocation", "kernelId", "ramdiskId")


def register_image(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Register the disk of a snapshot as the AMI of the build Region. Raises StepFailed, Cancelled."""
    _check(run, inputs)
    mapping = _root_mapping(inputs)
    ebs = mapping["Ebs"]
    source = _ami_of(run, str(ebs["SnapshotId"]))
    try:
        parent = run.shop.disks.get(source.digest)
        disk = _sized(run, parent, ebs.get("VolumeSize"))
    except DiskError as error:
        raise StepFailed(f"the snapshot {ebs['SnapshotId']} cannot be used: {error}") from error
    more: dict[str, Any] = {
        name: inputs[name] for name in ("bootMode", "description", "rootDeviceName") if inputs.get(name)
    }
    if inputs.get("includeSnapshotTags"):
        tags = source.document.get("tags", {})
        more["tags"] = {key: value for key, value in tags.items() if not key.startswith("aws:")}
    ami = keep_disk(run, disk, entry=str(source.document.get("entry", "cloud-init")), more=more)
    facts = {"parent": {"digest": source.digest, "image": str(ebs["SnapshotId"])}} if run.type == "BUILD" else {}
    return Outcome({"imageId": ami.ami_id}, facts=facts)


def _check(run: StepRun, inputs: Mapping[str, Any]) -> None:
    for name in _REFUSED:
        if inputs.get(name):
            raise StepFailed(f"{name} cannot be used: images start from their own disk here; leave it out")
    architecture = inputs.get("architecture", "x86_64")
    if architecture != "x86_64":
        raise StepFailed(f"architecture is {architecture}: this version has machines of x86_64 only")
    if inputs.get("virtualizationType") == "paravirtual":
        raise StepFailed("virtualizationType is paravirtual: machines are hvm here; leave it out")
    for name in _UNUSED:
        if inputs.get(name):
            run.say(f"warning: {name} means nothing here and is not part of the image")


def _root_mapping(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping of the root disk: that of `rootDeviceName`, or the only one with a snapshot."""
    mappings = inputs.get("blockDeviceMapping") or ()
    if any(not isinstance(item, Mapping) or not isinstance(item.get("Ebs", {}), Mapping) for item in mappings):
        raise StepFailed(
            "blockDeviceMapping is a list of mappings with DeviceName and Ebs, a mapping with SnapshotId"
        )
    found = [item for item in mappings if item.get("Ebs", {}).get("SnapshotId")]
    root = inputs.get("rootDeviceName")
    if root:
        others = [item for item in found if item.get("DeviceName") != root]
        found = [item for item in found if item.get("DeviceName") == root]
    else:
        others = found[1:]
    if not found:
        raise StepFailed(
            "blockDeviceMapping names no snapshot for the root disk: give one Ebs.SnapshotId, "
            "as 'imagesmith ami show' tells it" + (f", with DeviceName {root}" if root else "")
        )
    if others:
        raise StepFailed("blockDeviceMapping names several snapshots, and an image is one disk here: leave one")
    return dict(found[0])


def _ami_of(run: StepRun, snapshot: str) -> Ami:
    """An AMI that stands for the snapshot and that the run's account may launch. Raises StepFailed."""
    with run.shop.records.database.read() as tx:
        found = amis.amis_of_snapshot(tx, snapshot)
    usable = [ami for ami in found if ami.region == run.plan.region and may_launch(ami, run.plan.account)]
    if not usable or len({ami.digest for ami in usable}) > 1:
        raise StepFailed(
            f"there is no snapshot {snapshot} in {run.plan.region} that account {run.plan.account} may use; "
            "'imagesmith ami show' tells the snapshot of an AMI"
        )
    return usable[0]


def _sized(run: StepRun, disk: Disk, gigabytes: Any) -> Disk:
    """The disk, larger when a larger volume was asked for. Raises StepFailed, DiskError, Cancelled."""
    if gigabytes is None:
        return disk
    try:
        size = int(gigabytes) * _GIB
    except (TypeError, ValueError):
        raise StepFailed(f"VolumeSize is {gigabytes!r}: expected a number of GiB") from None
    if size < disk.virtual_size:
        raise StepFailed(
            f"VolumeSize is {gigabytes} GiB, and the snapshot needs {human_size(disk.virtual_size)}: "
            "give a larger one, or leave it out"
        )
    if size == disk.virtual_size:
        return disk
    with run.timed("image"):
        return run.shop.disks.enlarge(disk.digest, size, cancellation=run.cancellation)
