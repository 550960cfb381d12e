"""The image names of stock templates over HTTP: listed, readable and usable in every form of their versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesmith.managed.images import StockImage, stock_images
from imagesmith.resources.managed_images import managed_images
from imagesmith.settings import ManagedImage, SettingsError
from imagesmith.settings_loader import load_settings
from testing.api import DOCUMENT, Api, MakeApi
from testing.refusals import refused

CHECKSUM = f"sha256:{'a' * 64}"
ASKED = {
    "x.x.x": "1.0.0/1",
    "1.x.x": "1.0.0/1",
    "1.0.x": "1.0.0/1",
    "1.0.0": "1.0.0/1",
    "2023.x.x": "2023.0.0/1",
    "2020.10.8": "2020.10.8/1",
    "2020.02.19/7": "2020.02.19/7",
}


def image(api: Api, path: str) -> dict[str, Any]:
    arn = api.arn("image", path, owner="aws")
    return dict(api.client.get_image(imageBuildVersionArn=arn)["image"])


def test_stock_names_are_listed_once_with_their_system(api: Api) -> None:
    """Owner Amazon, through all pages; the names of the table are all there."""
    pages = api.client.get_paginator("list_images").paginate(owner="Amazon", PaginationConfig={"PageSize": 10})
    listed = [item for page in pages for item in page["imageVersionList"]]
    names = [item["name"] for item in listed]
    assert len(names) == len(set(names)) and set(names) >= {item.name for item in stock_images()}
    (found,) = [item for item in listed if item["name"] == "amazon-linux-2023-x86"]
    assert (found["platform"], found["osVersion"], found["type"]) == ("Linux", "Amazon Linux 2023", "AMI")
    assert found["owner"] == "Amazon" and found["arn"].endswith(":aws:image/amazon-linux-2023-x86/1.0.0")


@pytest.mark.parametrize(("asked", "found"), ASKED.items())
@pytest.mark.parametrize("name", ["amazon-linux-2-x86", "debian-12-x86"])
def test_every_form_of_a_version_resolves(api: Api, name: str, asked: str, found: str) -> None:
    """Wildcards, a pinned version, a pinned build: read, and taken by a recipe as it was sent."""
    shown = image(api, f"{name}/{asked}")
    assert shown["arn"] == api.arn("image", f"{name}/{found}", owner="aws") and shown["version"] == found
    parent = api.arn("image", f"{name}/{asked}", owner="aws")
    recipe = api.image_recipe(parentImage=parent)
    assert api.client.get_image_recipe(imageRecipeArn=recipe)["imageRecipe"]["parentImage"] == parent


@pytest.mark.parametrize("asked", ["x.2.x", "1.x.0"])
def test_a_number_behind_a_wildcard_stays_refused(api: Api, asked: str) -> None:
    """spec/api.md 3.4, also for managed images."""
    with refused("InvalidVersionNumberException"):
        image(api, f"amazon-linux-2-x86/{asked}")


@pytest.mark.parametrize("stock", stock_images(), ids=lambda item: item.name)
def test_a_recipe_takes_every_stock_image_of_its_kind(api: Api, stock: StockImage) -> None:
    """An image recipe takes machines, a container recipe containers, and the other one refuses."""
    parent = api.arn("image", f"{stock.name}/x.x.x", owner="aws")
    component = api.component(platform=stock.platform, data=_document(stock.platform))
    members: dict[str, Any] = {"parentImage": parent, "components": [{"componentArn": component}]}
    makes = {"machine": api.image_recipe, "container": api.recipe}
    makes.pop(stock.kind)(**members)
    with refused("InvalidParameterValueException"):
        next(iter(makes.values()))(**members)


def _document(platform: str) -> str:
    return DOCUMENT.replace("ExecuteBash", "ExecutePowerShell") if platform == "Windows" else DOCUMENT


def test_a_run_on_an_unmapped_image_is_accepted(api: Api) -> None:
    """The copy of the recipe names the build that the ARN resolved to; the run itself fails later."""
    recipe = api.image_recipe(parentImage=api.arn("image", "amazon-linux-2-x86/2020.x.x", owner="aws"))
    made = api.client.create_image(imageRecipeArn=recipe, infrastructureConfigurationArn=api.infrastructure())
    found = api.client.get_image(imageBuildVersionArn=made["imageBuildVersionArn"])["image"]
    assert found["imageRecipe"]["parentImage"].endswith(":aws:image/amazon-linux-2-x86/2020.0.0/1")
    assert found["imageSource"] == "AMAZON_MANAGED" and found["osVersion"] == "Amazon Linux 2"


MAPPED: Mapping[str, tuple[ManagedImage, str, str]] = {
    "ubuntu-server-24-lts-x86": (ManagedImage(base="debian-12-x86"), "Linux", "Debian 12"),
    "amazon-linux-x86-2": (ManagedImage(registry="public.ecr.aws/amazonlinux/amazonlinux:2"), "Linux",
                           "Amazon Linux 2"),
    "amazon-linux-2023-x86": (ManagedImage(disk="/srv/rocky.qcow2", checksum=CHECKSUM, os_version="Rocky Linux 9"),
                              "Linux", "Rocky Linux 9"),
    "windows-server-2022-english-full-base-x86": (
        ManagedImage(disk="/srv/w.qcow2", checksum=CHECKSUM, platform="Linux", os_version="Debian 12"), "Linux",
        "Debian 12"),
    "golden": (ManagedImage(registry="registry.example/golden:1", os_version="Alpine 3"), "Linux", "Alpine 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapping_decides_system_and_platform(make_api: MakeApi, name: str) -> None:
    """supportedOsVersions of a component is compared with the declared system of the mapping."""
    mapping, platform, system = MAPPED[name]
    api = make_api(managed_images={name: mapping})
    shown = image(api, f"{name}/x.x.x")
    assert (shown["platform"], shown["osVersion"]) == (platform, system)
    make = api.recipe if shown["type"] == "DOCKER" else api.image_recipe
    parent = api.arn("image", f"{name}/x.x.x", owner="aws")
    fits = api.component("fits", supportedOsVersions=[system])
    make("fitting", parentImage=parent, components=[{"componentArn": fits}])
    other = api.component("other", supportedOsVersions=["Plan 9"])
    with refused("InvalidParameterCombinationException") as refusal:
        make("other", parentImage=parent, components=[{"componentArn": other}])
    assert f"supports Plan 9, not {system}" in refusal.message


@pytest.mark.parametrize(
    ("name", "mapping", "words"),
    [
        ("amazon-linux-x86-2", ManagedImage(base="debian-12-x86"), "is an image for a container, and base:"),
        ("amazon-linux-2-x86", ManagedImage(registry="debian:12"), "is an image for a machine, and registry:"),
        (
            "amazon-linux-2-x86",
            ManagedImage(base="debian-9"),
            "there is no base 'debian-9'; known bases: debian",
        ),
    ],
)
def test_a_mapping_that_cannot_be_right_is_named(name: str, mapping: ManagedImage, words: str) -> None:
    """At the start of the server, with the key."""
    with pytest.raises(SettingsError, match=words) as error:
        managed_images({name: mapping})
    assert f"managed_images.{name}" in str(error.value)


@pytest.mark.parametrize(
    "members",
    [
        "",
        'base = "debian-12-x86"\nregistry = "debian:12"',
        'disk = "/srv/disk.qcow2"',
        f'base = "debian-12-x86"\nchecksum = "{CHECKSUM}"',
        'disk = "https://user:secret@host/disk"\nchecksum = "sha256:00"',
    ],
)
def test_a_mapping_says_one_thing(tmp_path: Path, members: str) -> None:
    """One of base, registry and disk; a checksum belongs to a disk, and a URL has no password."""
    (tmp_path / "settings.toml").write_text(f"[managed_images.amazon-linux-2-x86]\n{members}\n")
    with pytest.raises(SettingsError, match=r"managed_images\.amazon-linux-2-x86"):
        load_settings(tmp_path, file=None, environment={}, overrides={})


@pytest.mark.parametrize(
    "path", ["update-linux/1.0.2", "stig-build-linux-high/2022.4.0/1", "docker-ce-linux/x.x.x"]
)
def test_managed_components_resolve_in_every_version(api: Api, path: str) -> None:
    """Templates pin versions of the service."""
    arn = api.arn("component", path, owner="aws")
    found = api.client.get_component(componentBuildVersionArn=arn)["component"]
    assert found["arn"].startswith(arn.replace("/x.x.x", "/1.0.0")) and found["owner"] == "Amazon"
    api.recipe(components=[{"componentArn": arn}])
