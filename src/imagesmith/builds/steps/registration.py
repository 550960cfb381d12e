"""RegisterImage: an AMI from a disk of the catalog (spec/workflows.md 5.12).

Every disk of the catalog has a snapshot, `snap-` and the first 17 digits of its digest (`imagesmith ami show`).
Accounts that may launch an AMI of the disk may use the snapshot. Inputs that only EC2 supports are refused if they
would change how the image starts, and otherwise cause a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.machine_output import register_disk
from imagesmith.builds.revoked_images import refuse_revoked_parent
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.store import amis
from imagesmith.store.amis import Ami, may_launch
from imagesmith.store.build_outcome import BuildParent, BuildUpdate
from imagesmith.values.names import human_size

_GIB: Final = 1024**3
_UNUSED: Final = ("enaSupport", "imdsSupport", "sriovNetSupport", "tpmSupport", "uefiData")
_UNUSED_EBS: Final = ("Encrypted", "Iops", "KmsKeyId", "OutpostArn", "Throughput")
_REFUSED: Final = ("imageLocation", "kernelId", "ramdiskId")


def register_image(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Register the disk of a snapshot as the AMI of the build Region. Raises StepFailed, Cancelled."""
    _check(run, inputs)
    mapping = _root_mapping(run, inputs)
    ebs = mapping["Ebs"]
    source = _ami_of(run, str(ebs["SnapshotId"]))
    refuse_revoked_parent(run, source.digest, str(ebs["SnapshotId"]))
    try:
        parent = run.worker_context.disks.whole(source.digest, cancellation=run.cancellation)
        disk = _sized(run, parent, ebs.get("VolumeSize"))
    except DiskError as error:
        raise StepFailed(f"the snapshot {ebs['SnapshotId']} cannot be used: {error}") from error
    ami = register_disk(
        run, disk, entry=str(source.document.get("entry", "cloud-init")), more=_described(inputs, source)
    )
    update = BuildUpdate()
    if run.type == "BUILD":
        update = BuildUpdate(parent=BuildParent(digest=source.digest, image=str(ebs["SnapshotId"])))
    return Outcome({"imageId": ami.ami_id}, update=update)


def _described(inputs: Mapping[str, Any], source: Ami) -> Mapping[str, Any]:
    """Members that the inputs add to the document of the AMI."""
    named = {name: inputs[name] for name in ("bootMode", "description", "rootDeviceName") if inputs.get(name)}
    if not inputs.get("includeSnapshotTags"):
        return named
    tags = source.document.get("tags", {})
    return {**named, "tags": {key: value for key, value in tags.items() if not key.startswith("aws:")}}


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
            run.note(f"warning: {name} has no effect here and is not part of the image")


def _root_mapping(run: StepRun, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping of the root disk: by `rootDeviceName`, or the only mapping with a snapshot."""
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
            "as 'imagesmith ami show' prints it" + (f", with DeviceName {root}" if root else "")
        )
    if others:
        raise StepFailed("blockDeviceMapping names several snapshots, and an image is one disk here: keep one")
    for index, item in enumerate(mappings):
        ebs = item.get("Ebs", {})
        if item is not found[0] and "NoDevice" not in item:
            run.note(f"warning: blockDeviceMapping[{index}] is not part of the image: an image is one disk here")
        elif unused := sorted(name for name in _UNUSED_EBS if ebs.get(name)):
            run.note(f"warning: {', '.join(unused)} of blockDeviceMapping[{index}] have no effect here")
    return dict(found[0])


def _ami_of(run: StepRun, snapshot: str) -> Ami:
    """An AMI of the snapshot's disk that the run's account may launch. Raises StepFailed."""
    found = run.worker_context.records.database.query(lambda tx: amis.amis_of_snapshot(tx, snapshot))
    usable = [ami for ami in found if ami.region == run.plan.region and may_launch(ami, run.plan.account)]
    if not usable or len({ami.digest for ami in usable}) > 1:
        raise StepFailed(
            f"there is no snapshot {snapshot} in {run.plan.region} that account {run.plan.account} may use; "
            "'imagesmith ami show' prints the snapshot of an AMI"
        )
    return usable[0]


def _sized(run: StepRun, disk: Disk, gigabytes: Any) -> Disk:
    """The disk, enlarged to the requested volume size. Raises StepFailed, DiskError, Cancelled."""
    if gigabytes is None:
        return disk
    try:
        size = int(gigabytes) * _GIB
    except (TypeError, ValueError):
        raise StepFailed(f"VolumeSize is {gigabytes!r}: expected a number of GiB") from None
    if size < disk.virtual_size:
        raise StepFailed(
            f"VolumeSize is {gigabytes} GiB, and the snapshot needs {human_size(disk.virtual_size)}: "
            "set a larger one, or remove it"
        )
    if size == disk.virtual_size:
        return disk
    with run.timed("image"):
        return run.worker_context.disks.enlarge(disk.digest, size, cancellation=run.cancellation)
