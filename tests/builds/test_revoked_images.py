"""Every way of a run by which a revoked image could get into another image, or out; without a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagesmith.builds.container_build import ContainerBuild
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.inspection import push_for_scan
from imagesmith.builds.machine_build import MachineBuild
from imagesmith.builds.steps.ami_distribution import apply_configurations, distribute_image, modify_attributes
from imagesmith.builds.steps.context import StepRun
from imagesmith.builds.steps.distribution import distribute_container_image
from imagesmith.builds.steps.machine import launch_instance
from imagesmith.builds.steps.registration import register_image
from imagesmith.distribution.destinations import catalog_region
from imagesmith.recipes.plan import PlannedParent, PlannedScan
from imagesmith.settings import Registry
from imagesmith.store import amis, ancestry
from imagesmith.store.amis import Ami
from imagesmith.store.ancestry import Lineage
from imagesmith.store.revocations import Revocation, put_revocation, remove_revocation
from testing.disks import raw_disk
from testing.plans import ACCOUNT, ARN, REGION

pytestmark = pytest.mark.tool

PARENT = ARN.replace("/web/", "/base/")
DIGEST, PARENTS = "sha256:" + "1" * 64, "sha256:" + "2" * 64
BASE = Ami("ami-" + "1" * 17, ACCOUNT, REGION, "base", "", datetime(2026, 1, 1, tzinfo=UTC))
Way = Callable[[StepRun], object]


def revoke(run: StepRun, arn: str, *items: Lineage) -> None:
    with run.worker_context.records.database.write(f"{ACCOUNT}/{REGION}") as tx:
        ancestry.put_lineages(tx, items)
        put_revocation(tx, Revocation(arn, "leaked key", "ann", datetime(2026, 11, 29, tzinfo=UTC)))


DELIVERIES: dict[str, Way] = {
    "DistributeContainerImage": lambda run: distribute_container_image(run, {}),
    "DistributeImage": lambda run: distribute_image(run, {}),
    "ModifyImageAttributes": lambda run: modify_attributes(run, {"distributedImages": []}),
    "ApplyImageConfigurations": lambda run: apply_configurations(run, {"distributedImages": []}),
    "containers without a workflow": lambda run: ContainerBuild().distribute(run, DIGEST),
    "AMIs without a workflow": lambda run: MachineBuild().distribute(run, DIGEST),
    "a push for a scan": lambda run: push_for_scan(run, PlannedScan("scans"), DIGEST),
}


@pytest.mark.parametrize("revoked", [ARN, PARENT])
@pytest.mark.parametrize("way", DELIVERIES.values(), ids=DELIVERIES)
def test_a_revoked_image_is_not_delivered(run: StepRun, way: Way, revoked: str) -> None:
    """By itself or with what it was built on; the revocation may be younger than the run."""
    settings = replace(
        run.worker_context.settings, registries={REGION: Registry("127.0.0.1:1", insecure=True)}
    )  # fmt: skip
    run = replace(run, digest=DIGEST, worker_context=replace(run.worker_context, settings=settings))
    own = Lineage(image_arn=ARN, digest=DIGEST, parent="registry.example/base:1", parent_digest=PARENTS)
    revoke(run, revoked, own, Lineage(image_arn=PARENT, digest=PARENTS))
    with pytest.raises(StepFailed, match=r"the image cannot be distributed: .* is revoked.*: leaked key"):
        way(run)


def adopt_container(run: StepRun, digest: str) -> object:
    parent = PlannedParent("image", PARENT, digest)
    plan = replace(run.plan, kind="container", parent=parent, collect_metadata=False, machine=None)
    return ContainerBuild().adopt_parent(replace(run, plan=plan))


def adopt_machine(run: StepRun, _: str) -> object:
    plan = replace(run.plan, parent=PlannedParent("machine", BASE.ami_id), collect_metadata=False)
    return MachineBuild().adopt_parent(replace(run, plan=plan))


def adopt_output(run: StepRun, _: str) -> object:
    ((_name, finish),) = MachineBuild().finish(datetime(2026, 11, 29, tzinfo=UTC))
    return finish(run, {"ImageId": BASE.ami_id})


STARTS: dict[str, Callable[[StepRun, str], object]] = {
    "a container that is adopted": adopt_container,
    "an AMI that is adopted": adopt_machine,
    "an AMI that a workflow names as its output": adopt_output,
    "a snapshot": lambda run, digest: register_image(
        run, {"blockDeviceMapping": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": f"snap-{digest[7:24]}"}}]}
    ),
    "an instance of another AMI": lambda run, _: launch_instance(run, {"imageIdOverride": BASE.ami_id}),
}


@pytest.mark.parametrize("way", STARTS.values(), ids=STARTS)
def test_nothing_is_made_of_a_revoked_image(
    run: StepRun, tmp_path: Path, way: Callable[[StepRun, str], object]
) -> None:
    """Its bytes are known by their digest; what was not built is neither named nor registered."""
    raw_disk(tmp_path / "disk.raw")
    disk = run.worker_context.disks.take(tmp_path / "disk.raw")
    catalog_region.put(run.distribution, replace(BASE, digest=disk.digest, document={"entry": "credentials"}))
    revoke(run, PARENT, Lineage(image_arn=PARENT, digest=disk.digest))
    with pytest.raises(StepFailed, match=f"the parent .* cannot be used: {PARENT} is revoked: leaked key"):
        way(run, disk.digest)
    assert run.worker_context.records.database.query(lambda tx: amis.list_amis(tx, image_arn=ARN)) == []


def test_a_withdrawn_revocation_refuses_nothing(run: StepRun, tmp_path: Path) -> None:
    """The same AMI is adopted afterwards."""
    raw_disk(tmp_path / "disk.raw")
    disk = run.worker_context.disks.take(tmp_path / "disk.raw")
    catalog_region.put(run.distribution, replace(BASE, digest=disk.digest, document={"entry": "credentials"}))
    revoke(run, PARENT, Lineage(image_arn=PARENT, digest=disk.digest))
    with run.worker_context.records.database.write(f"{ACCOUNT}/{REGION}") as tx:
        assert remove_revocation(tx, PARENT)
    assert adopt_machine(run, disk.digest) == disk.digest
