"""Runs of image recipes that need no guest: what they fail with, and a parent that is distributed as it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from testing.machine_images import add_disk, start
from testing.machines import HANG, await_process, machine_process
from testing.pipeline_support import ACCOUNT, REGION, Forge, eventually

pytestmark = pytest.mark.tool

DISTRIBUTION_ONLY = f"arn:aws:imagebuilder:{REGION}:aws:workflow/distribution/distribute-image/x.x.x"


def test_a_parent_that_does_not_boot_fails_the_build(forge: Forge, blank: str) -> None:
    """The reason names the machine, says that the disk does not boot, and shows the console; no machine is left."""
    image = forge.finished(start(forge, blank), "FAILED")
    reason = image["state"]["reason"]
    assert "the disk does not boot" in reason and "last lines of its console" in reason
    assert image["outputResources"] == {"amis": []}
    assert list((forge.server.data_dir / "machines").glob("i-*")) == []


def test_an_ami_that_is_not_in_the_catalog_is_named(forge: Forge) -> None:
    """A run of an image recipe on it ends FAILED, and says where to look."""
    reason = forge.finished(start(forge, "ami-0123456789abcdef0"), "FAILED")["state"]["reason"]
    assert "there is no AMI ami-0123456789abcdef0 in us-east-1" in reason and "imagesmith ami list" in reason


def test_a_parent_can_be_distributed_as_it_is(forge: Forge, blank: str) -> None:
    """Without build and test workflows the parent's disk becomes the AMIs of the distribution."""
    distribution = forge.client.create_distribution_configuration(
        name=forge.name("distribution"),
        distributions=[
            {"region": REGION, "amiDistributionConfiguration": {"name": "copy {{ imagebuilder:buildDate }}"}},
            {"region": "eu-west-1", "amiDistributionConfiguration": {"targetAccountIds": ["210987654321"]}},
        ],
    )["distributionConfigurationArn"]  # fmt: skip
    arn = start(
        forge, blank, distributionConfigurationArn=distribution, workflows=[{"workflowArn": DISTRIBUTION_ONLY}],
        executionRole="builder", imageTestsConfiguration={"imageTestsEnabled": False},
    )  # fmt: skip
    found = forge.finished(arn)["outputResources"]["amis"]
    assert [(item["region"], item["accountId"]) for item in found] == [
        ("eu-west-1", ACCOUNT), ("eu-west-1", "210987654321"), (REGION, ACCOUNT),
    ]  # fmt: skip
    assert found[-1]["name"].startswith("copy 20") and all(item["image"].startswith("ami-") for item in found)


def test_a_disk_that_is_too_small_for_the_parent_is_refused(forge: Forge, tmp_path: Path) -> None:
    """The reason has both sizes; no machine starts."""
    parent = add_disk(forge, tmp_path, code=HANG, mebibytes=1200)
    devices = [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 1}}]
    image = forge.finished(start(forge, parent, recipe={"blockDeviceMappings": devices}), "FAILED")
    reason = image["state"]["reason"]
    assert "root disk has 1 GiB, and the parent image needs 1.2 GiB" in reason and "volumeSize" in reason


def test_a_killed_server_begins_the_build_of_a_machine_anew(forge: Forge, tmp_path: Path) -> None:
    """QEMU dies with it; when the next attempt fails, the console's last lines are shown and all is gone."""
    server = forge.server
    machines = server.data_dir / "machines"
    arn = start(forge, add_disk(forge, tmp_path, code=HANG))
    folder = eventually(lambda: next(machines.glob("i-*"), None), "the folder of a machine", seconds=30)
    await_process(folder, there=True)
    server.kill()
    await_process(folder, there=False)
    server.start()
    await_process(folder, there=True)
    console = folder / "console.log"
    eventually(lambda: console.exists() and b"Booting" in console.read_bytes(), "the firmware's words", seconds=30)
    os.kill(machine_process(folder), signal.SIGKILL)
    reason = server.forge.finished(arn, "FAILED")["state"]["reason"]
    assert "QEMU ended (killed by SIGKILL)" in reason and "last lines of its console" in reason
    assert list(machines.glob("i-*")) == [] and machine_process(folder) == 0
    assert "the server stopped during LaunchBuildInstance; attempt 2 begins" in server.log(arn)


@pytest.mark.parametrize("tag", ["imagesmith:cache", "imagesmith:no-boot"])
def test_a_tag_that_means_nothing_starts_no_run(forge: Forge, blank: str, tag: str) -> None:
    """The request is refused with the words of what is expected."""
    with pytest.raises(
        forge.client.exceptions.InvalidRequestException, match=f"The tag {tag} is 'perhaps': expected"
    ):
        start(forge, blank, tags={tag: "perhaps"})


def test_without_a_boot_a_disk_needs_a_root_that_can_be_read(forge: Forge, blank: str) -> None:
    """A run that asks for no machine says which partition it looked at."""
    image = forge.finished(start(forge, blank, tags={"imagesmith:no-boot": "true"}), "FAILED")
    assert "cannot be changed without a boot: the disk has no root file system" in image["state"]["reason"]
    assert forge.server.containers() == []
