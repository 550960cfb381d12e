"""Runs of image recipes that need no guest: what they fail with, and a parent that is distributed as it is."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from artifacts.test_disks import raw_disk
from pipeline.pipeline_support import ACCOUNT, COMMAND, REGION, Forge

pytestmark = pytest.mark.tool

DISTRIBUTION_ONLY = f"arn:aws:imagebuilder:{REGION}:aws:workflow/distribution/distribute-image/x.x.x"


@pytest.fixture
def blank(forge: Forge, tmp_path: Path) -> str:
    """The AMI of a disk that holds no system, as `imagesmith base add` makes it."""
    data = raw_disk(tmp_path / "blank.raw")
    disk = bytearray(data)
    disk[:2] = b"\xcd\x18"  # int 0x18: nothing to boot here
    (tmp_path / "blank.raw").write_bytes(disk)
    checksum = f"sha256:{hashlib.sha256(disk).hexdigest()}"
    done = subprocess.run(
        [COMMAND, "base", "add", str(tmp_path / "blank.raw"), "--checksum", checksum, "--name", forge.name("blank"),
         "--json", "--data-dir", str(forge.server.data_dir)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return str(json.loads(done.stdout)["amiId"])


def start(forge: Forge, parent: str, **members: object) -> str:
    recipe = forge.client.create_image_recipe(
        name=forge.name("machine"), semanticVersion="1.0.0", parentImage=parent,
        components=[{"componentArn": forge.component(build="true")}],
    )["imageRecipeArn"]  # fmt: skip
    made = forge.client.create_image(
        imageRecipeArn=recipe, infrastructureConfigurationArn=forge.infrastructure(), **members
    )
    return str(made["imageBuildVersionArn"])


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
