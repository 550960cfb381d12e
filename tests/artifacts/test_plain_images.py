"""What a container of the host is made from has no ONBUILD triggers, however an image holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.plain_images import write_view
from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage, StorageError

pytestmark = pytest.mark.tool

Make = Callable[[dict[str, Any]], str]


@pytest.fixture
def make(container_storage: ContainerStorage, tiny_image: str, tmp_path: Path) -> Make:
    """Bring an image of the tiny image's layers into the storage; its configuration is given whole."""

    def image(document: dict[str, Any]) -> str:
        rootfs = json.loads(container_storage.source_config(f"containers-storage:@{tiny_image}"))["rootfs"]
        text = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **document})
        id = write_view(tmp_path / "image", text.encode())
        argv = ["skopeo", "copy", "--quiet", f"oci:{tmp_path / 'image'}", f"containers-storage:@{id}"]
        container_storage.tool(argv, what="copying")
        return id

    return image


@pytest.fixture
def with_triggers(container_storage: ContainerStorage, tiny_image: str) -> Iterator[Callable[..., str]]:
    """An image in docker's format that buildah has written, with triggers and a health check."""

    def image(*triggers: str) -> str:
        container_storage.create("trigger", tiny_image)
        changes = [f"--onbuild={trigger}" for trigger in triggers]
        container_storage.configure("trigger", [*changes, "--healthcheck=CMD true", "--shell=/bin/bash -c"])
        argv = ["buildah", "commit", "--quiet", "--format=docker", "trigger"]
        return container_storage.tool(argv, what="committing").stdout.decode().strip().removeprefix("sha256:")

    yield image
    container_storage.remove("trigger")


def made_from(storage: ContainerStorage, image: str, name: str = "look") -> list[str]:
    """What lies in the root of a container of an image."""
    storage.create(name, image)
    try:
        with Root(storage.mount(name)) as root:
            return root.list("/")
    finally:
        storage.remove(name)


def test_making_a_container_runs_no_trigger(
    container_storage: ContainerStorage, with_triggers: Callable[..., str], tiny_image: str, tmp_path: Path
) -> None:
    """Neither COPY of a file of the host nor ADD nor RUN; the layers and all other configuration are the same."""
    (tmp_path / "secret").write_text("hunter2")
    image = with_triggers(f"COPY {tmp_path}/secret /stolen", f"ADD {tmp_path}/secret /too", "RUN touch /ran")
    assert made_from(container_storage, image) == made_from(container_storage, tiny_image)
    plain = container_storage.plain_image(image)
    assert plain.triggers == (f"COPY {tmp_path}/secret /stolen", f"ADD {tmp_path}/secret /too", "RUN touch /ran")
    before, after = (json.loads(container_storage._inspect(each))["Docker"] for each in (image, plain.id))
    for document in (before, after):
        for holder in ("config", "container_config"):
            document[holder].pop("OnBuild", None)
    assert before == after and after["config"]["Healthcheck"]["Test"] == ["CMD", "true"]


@pytest.mark.parametrize(
    "document",
    [
        {"config": {"OnBuild": ["RUN touch /ran"]}},
        {"config": {"onbuild": ["RUN touch /ran"]}},
        {"Config": {"ONBUILD": ["RUN touch /ran"]}},
        {"container_config": {"OnBuild": ["RUN touch /ran"]}},
        {"CONTAINER_CONFIG": {"OnBuild": ["RUN touch /ran"]}},
        {"config": {"OnBuild": ["RUN touch /ran"], "Labels": {"onbuild": "kept"}}, "onbuild": ["RUN x"]},
        {"config": None, "container_config": {"OnBuild": ["RUN touch /ran"]}},
        {"config": {"OnBuild": ["RUN touch /ran"], "Env": ["BIG=" + "x" * 2_000_000]}},
    ],
    ids=lambda document: json.dumps(document)[:60],
)
def test_triggers_are_found_wherever_buildah_finds_them(
    container_storage: ContainerStorage, make: Make, tiny_image: str, document: dict[str, Any]
) -> None:
    """In an OCI configuration, in any case of the letters, in the old member, in a long one."""
    image = make(document)
    plain = container_storage.plain_image(image)
    assert "OnBuild" not in container_storage.docker_members(plain.id)
    assert made_from(container_storage, image) == made_from(container_storage, tiny_image)
    if plain.id != image:
        assert plain.triggers == ("RUN touch /ran",)
    labels = container_storage.image_config(plain.id).get("config") or {}
    assert labels.get("Labels") == ((document.get("config") or {}).get("Labels"))


@pytest.mark.parametrize("member", ['"OnBuild": "RUN x"', '"OnBuild": [1]', '"OnBuild": {"a": 1}'])
def test_a_configuration_of_wrong_types_makes_no_container(
    container_storage: ContainerStorage, make: Make, member: str
) -> None:
    """What buildah cannot read is refused before anything is made from it."""
    image = make({"config": json.loads(f"{{{member}}}")})
    with pytest.raises((StorageError, RuntimeError)):
        container_storage.create("odd", image)
    assert "odd" not in container_storage.containers()


@pytest.mark.parametrize(
    "twice", ['"OnBuild":[],"OnBuild":["RUN touch /ran"]', '"OnBuild":["RUN touch /ran"],"onbuild":null']
)
def test_members_that_come_twice_are_read_as_buildah_reads_them(
    container_storage: ContainerStorage, tiny_image: str, tmp_path: Path, twice: str
) -> None:
    """Whichever counts, no trigger runs."""
    rootfs = json.dumps(container_storage.image_config(tiny_image)["rootfs"])
    text = f'{{"architecture":"amd64","os":"linux","rootfs":{rootfs},"config":{{{twice}}}}}'
    id = write_view(tmp_path / "twice", text.encode())
    argv = ["skopeo", "copy", "--quiet", f"oci:{tmp_path / 'twice'}", f"containers-storage:@{id}"]
    container_storage.tool(argv, what="copying")
    assert made_from(container_storage, id) == made_from(container_storage, tiny_image)


def test_triggers_of_dockers_format_outlive_the_layout(
    container_storage: ContainerStorage, layout: OciLayout, with_triggers: Callable[..., str], tmp_path: Path
) -> None:
    """Through an archive of docker and the layout, triggers, health check and shell are still there."""
    image = with_triggers("RUN one", "ENV A=b")
    archive = f"docker-archive:{tmp_path / 'image.tar'}"
    argv = ["skopeo", "copy", "--quiet", f"containers-storage:@{image}", archive]
    container_storage.tool(argv, what="writing the archive")
    artifact = layout.import_source(container_storage, archive, "kept")
    config = layout.config(artifact.digest)["config"]
    assert config["OnBuild"] == ["RUN one", "ENV A=b"]
    assert config["Healthcheck"]["Test"] == ["CMD", "true"] and config["Shell"] == ["/bin/bash", "-c"]
    kept = layout.ensure_in_storage(container_storage, artifact.digest)
    assert container_storage.plain_image(kept).triggers == ("RUN one", "ENV A=b")
