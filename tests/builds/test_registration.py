"""RegisterImage: which inputs name which disk, and what is refused; without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.disks import Disk
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.steps.context import StepRun
from imagesmith.builds.steps.registration import register_image
from imagesmith.distribution.destinations import catalog_region
from imagesmith.store.amis import Ami
from testing.disks import raw_disk
from testing.plans import ACCOUNT, ARN, OTHER, REGION

pytestmark = pytest.mark.tool

BASE = Ami("ami-" + "1" * 17, ACCOUNT, REGION, "base", "", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def disk(run: StepRun, tmp_path: Path) -> Disk:
    """A disk of 8 MiB that stands in the catalog as BASE, with tags."""
    raw_disk(tmp_path / "disk.raw")
    disk = run.worker_context.disks.take(tmp_path / "disk.raw")
    tags = {"team": "blue", "CreatedBy": "hand", "aws:secret": "x"}
    catalog_region.put(
        run.distribution, replace(BASE, digest=disk.digest, document={"tags": tags, "entry": "credentials"})
    )
    return disk


def snapshot(disk: Disk, **ebs: Any) -> dict[str, Any]:
    return {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": f"snap-{disk.digest[7:24]}", **ebs}}


def test_an_image_stands_for_the_disk_of_its_snapshot(run: StepRun, disk: Disk) -> None:
    """The same disk, entered as before, under the run's own name; it is the parent of the image."""
    done = register_image(run, {"blockDeviceMapping": [snapshot(disk), {"DeviceName": "/dev/sdb", "NoDevice": ""}]})
    own = catalog_region.own_ami(run.distribution)
    assert done.outputs == {"imageId": own.ami_id}
    assert (own.digest, own.document["entry"], own.document["tags"].get("team")) == (
        disk.digest,
        "credentials",
        None,
    )
    assert done.update.parent is not None and done.update.parent.digest == disk.digest


def test_tags_of_the_snapshot_stand_under_the_images_own(run: StepRun, disk: Disk) -> None:
    """Those of the service win, and reserved ones are left out."""
    register_image(run, {"blockDeviceMapping": [snapshot(disk)], "includeSnapshotTags": True})
    assert catalog_region.own_ami(run.distribution).document["tags"] == {
        "team": "blue", "CreatedBy": "EC2 Image Builder", "Ec2ImageBuilderArn": ARN,
    }  # fmt: skip


def test_the_root_device_chooses_among_mappings(run: StepRun, disk: Disk) -> None:
    """One snapshot is the image; a second one would be lost, so it is refused."""
    two = [snapshot(disk) | {"DeviceName": "/dev/sdb"}, snapshot(disk)]
    with pytest.raises(StepFailed, match="names several snapshots"):
        register_image(run, {"blockDeviceMapping": two, "rootDeviceName": "/dev/xvda"})
    with pytest.raises(StepFailed, match="with DeviceName /dev/sda1"):
        register_image(run, {"blockDeviceMapping": [snapshot(disk)], "rootDeviceName": "/dev/sda1"})
    register_image(run, {"blockDeviceMapping": [snapshot(disk)], "rootDeviceName": "/dev/xvda"})
    assert catalog_region.own_ami(run.distribution).document["rootDeviceName"] == "/dev/xvda"


def test_a_larger_volume_is_a_larger_disk(run: StepRun, disk: Disk) -> None:
    """Its bytes are those of the snapshot, followed by zeros; the snapshot stays as it is."""
    register_image(run, {"blockDeviceMapping": [snapshot(disk, VolumeSize=1)]})
    larger = run.worker_context.disks.get(catalog_region.own_ami(run.distribution).digest)
    assert larger.virtual_size == 1024**3 and larger.digest != disk.digest
    run.worker_context.disks.check(disk.digest)
    with pytest.raises(StepFailed, match="VolumeSize is 'much': expected a number of GiB"):
        register_image(run, {"blockDeviceMapping": [snapshot(disk, VolumeSize="much")]})


def test_a_smaller_volume_is_refused(run: StepRun, tmp_path: Path) -> None:
    """The reason has both sizes."""
    with (tmp_path / "large.raw").open("wb") as file:
        file.write(bytes(510) + b"\x55\xaa")
        file.truncate(1200 * 1024**2)
    large = run.worker_context.disks.take(tmp_path / "large.raw")
    catalog_region.put(run.distribution, replace(BASE, digest=large.digest))
    with pytest.raises(StepFailed, match=r"VolumeSize is 1 GiB, and the snapshot needs 1\.2 GiB"):
        register_image(run, {"blockDeviceMapping": [snapshot(large, VolumeSize=1)]})


def test_a_disk_of_somebody_else_is_as_good_as_absent(run: StepRun, disk: Disk) -> None:
    """Another account's, until it may be launched; another Region's always."""
    theirs = replace(BASE, account=OTHER, digest=disk.digest)
    inputs = {"blockDeviceMapping": [snapshot(disk)]}
    for ami in (theirs, replace(BASE, region="us-east-1", digest=disk.digest)):
        catalog_region.put(run.distribution, ami)
        with pytest.raises(StepFailed, match=rf"there is no snapshot snap-{disk.digest[7:24]} in eu-west-1 that"):
            register_image(run, inputs)
    catalog_region.put(run.distribution, replace(theirs, document={"launchPermission": {"userIds": [ACCOUNT]}}))
    assert register_image(run, inputs).outputs["imageId"] == catalog_region.own_ami(run.distribution).ami_id


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "names no snapshot for the root disk"),
        ({"blockDeviceMapping": [{"Ebs": {"SnapshotId": "snap-" + "0" * 17}}]}, "there is no snapshot snap-0000"),
        ({"blockDeviceMapping": [{"Ebs": {"SnapshotId": "snap-%"}}]}, "there is no snapshot snap-%"),
        ({"blockDeviceMapping": ["/dev/xvda"]}, "is a list of mappings"),
        ({"architecture": "arm64"}, "machines of x86_64 only"),
        ({"imageLocation": "bucket/manifest.xml"}, "imageLocation cannot be used"),
        ({"kernelId": "aki-1"}, "kernelId cannot be used"),
        ({"virtualizationType": "paravirtual"}, "machines are hvm here"),
    ],
)
def test_what_cannot_be_registered_is_said(run: StepRun, inputs: dict[str, Any], words: str) -> None:
    """The step fails with what is wrong and what to write."""
    with pytest.raises(StepFailed, match=words):
        register_image(run, inputs)
