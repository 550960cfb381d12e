"""Runs on managed images of the service: what stands in for them is in the log and in the provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.machine_images import ADOPT, start
from testing.pipeline_support import REGION, Forge, RunningServer, uris
from testing.registry_support import RunningRegistry
from testing.workflow_support import ROLE

pytestmark = pytest.mark.tool


def managed(name: str) -> str:
    return f"arn:aws:imagebuilder:{REGION}:aws:image/{name}/x.x.x"


@pytest.mark.parametrize("name", ["amazon-linux-x86-latest", "debian-x86-11"])
def test_a_container_image_without_a_meaning_fails_and_names_the_setting(forge: Forge, name: str) -> None:
    """The recipe is accepted, and the run ends FAILED."""
    image = forge.build(forge.recipe(forge.component(build="true"), parentImage=managed(name)), "FAILED")
    reason = image["state"]["reason"]
    assert f"[managed_images.{name}] with base, or with registry" in reason


def test_a_machine_image_without_a_meaning_fails_and_names_the_setting(forge: Forge) -> None:
    """The same for the disk of a machine."""
    image = forge.finished(start(forge, managed("amazon-linux-2023-x86")), "FAILED")
    assert "[managed_images.amazon-linux-2023-x86] with base, or with disk and checksum" in image["state"]["reason"]


@pytest.fixture
def mapped(
    tmp_path: Path, tiny_parent: str, open_registry: RunningRegistry, disk_file: Path, forge: Forge
) -> Iterator[Forge]:
    """A server that maps one image to a registry, and another one to a disk."""
    golden = uris(forge.build(forge.recipe(forge.component(build="echo golden > /golden"))))[0]
    with disk_file.open("rb") as file:
        checksum = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    settings = (
        f'[managed_images.amazon-linux-x86-latest]\nregistry = "{golden}"\n'
        f'[managed_images.amazon-linux-2023-x86]\ndisk = "{disk_file}"\nchecksum = "{checksum}"\n'
    )
    with RunningServer(
        tmp_path / "data", parent=tiny_parent, registries={REGION: open_registry.host}, settings=settings
    ) as server:
        yield server.start().forge
        server.stop()


def test_what_stands_in_is_in_log_and_provenance(mapped: Forge) -> None:
    """The log names both, and so does the signed statement; osVersion is what the inventory found."""
    recipe = mapped.recipe(
        mapped.component(build="grep golden /golden"), parentImage=managed("amazon-linux-x86-latest")
    )
    image = mapped.build(recipe)
    assert image["imageSource"] == "AMAZON_MANAGED" and image["osVersion"] == "Tiny 1"
    log = mapped.server.log(image["arn"])
    assert "aws:image/amazon-linux-x86-latest/1.0.0/1 is registry:" in log
    verified = json.loads(mapped.server.command("image", "verify", image["arn"], "--json"))
    assert "aws:image/amazon-linux-x86-latest/1.0.0/1 (registry:" in verified["parent"]


def test_a_disk_stands_in_and_is_read_once(mapped: Forge) -> None:
    """The second run takes the disk from the store; both AMIs are of the disk with the checksum."""
    digests = set()
    for expected in ("reading ", "is available (made "):
        arn = start(mapped, managed("amazon-linux-2023-x86"), workflows=[ADOPT], executionRole=ROLE)
        image = mapped.finished(arn)
        assert expected in mapped.server.log(arn)
        assert "aws:image/amazon-linux-2023-x86/1.0.0/1 is disk:/" in mapped.server.log(arn)
        (ami,) = image["outputResources"]["amis"]
        digests.add(json.loads(mapped.server.command("ami", "show", ami["image"], "--json"))["digest"])
    assert len(digests) == 1
