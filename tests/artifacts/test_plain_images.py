"""What a container of the host is made from has no ONBUILD triggers, however an image holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.plain_images import docker_members, layer_moment
from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from testing.buildah import Buildah, opened_buildah

pytestmark = pytest.mark.tool

Make = Callable[[dict[str, Any]], str]


@pytest.fixture
def make(container_storage: ContainerStorage, tiny_image: str) -> Make:
    """Bring an image of the tiny image's layers into the storage; its configuration is given whole."""

    def image(document: dict[str, Any]) -> str:
        rootfs = container_storage.image_config(tiny_image)["rootfs"]
        text = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **document})
        return container_storage.make_image(text.encode(), tiny_image)

    return image


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    with opened_buildah(tmp_path_factory.mktemp("buildah")) as opened:
        yield opened


WithTriggers = Callable[..., str]


@pytest.fixture
def with_triggers(buildah: Buildah, container_storage: ContainerStorage, tiny_image: str) -> WithTriggers:
    """An image in docker's format in buildah's storage, with triggers and a health check."""

    def image(*triggers: str) -> str:
        options = [f"--onbuild={trigger}" for trigger in triggers]
        options += ["--healthcheck=CMD true", "--shell=/bin/bash -c"]
        return buildah.docker_image(container_storage, tiny_image, options)

    return image


def made_from(storage: ContainerStorage, image: str, name: str = "look") -> list[str]:
    """What lies in the root of a container of an image."""
    storage.create(name, image)
    try:
        with Root(storage.mount(name)) as root:
            return root.list("/")
    finally:
        storage.remove(name)


def test_making_a_container_runs_no_trigger(
    container_storage: ContainerStorage, buildah: Buildah, with_triggers: WithTriggers, tiny_image: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Neither COPY of a file of the host nor ADD nor RUN; the layers and all other configuration are the same."""
    (tmp_path / "secret").write_text("hunter2")
    source = with_triggers(f"COPY {tmp_path}/secret /stolen", f"ADD {tmp_path}/secret /too", "RUN touch /ran")
    image = buildah.to_storage(source, container_storage)
    assert made_from(container_storage, image) == made_from(container_storage, tiny_image)
    plain = container_storage.plain_image(image)
    assert plain.triggers == (f"COPY {tmp_path}/secret /stolen", f"ADD {tmp_path}/secret /too", "RUN touch /ran")
    before, after = (json.loads(container_storage.config_bytes(each)) for each in (image, plain.id))
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
def test_triggers_are_found_wherever_docker_finds_them(
    container_storage: ContainerStorage, make: Make, tiny_image: str, document: dict[str, Any]
) -> None:
    """In an OCI configuration, in any case of the letters, in the old member, in a long one."""
    image = make(document)
    plain = container_storage.plain_image(image)
    assert "OnBuild" not in docker_members(container_storage.config_bytes(plain.id))
    assert made_from(container_storage, image) == made_from(container_storage, tiny_image)
    if plain.id != image:
        assert plain.triggers == ("RUN touch /ran",)
    labels = container_storage.image_config(plain.id).get("config") or {}
    assert labels.get("Labels") == ((document.get("config") or {}).get("Labels"))


@pytest.mark.parametrize("member", ['"OnBuild": "RUN x"', '"OnBuild": [1]', '"OnBuild": {"a": 1}'])
def test_a_configuration_of_wrong_types_makes_no_container(
    container_storage: ContainerStorage, make: Make, member: str
) -> None:
    """What cannot be read is refused before anything is made from it."""
    image = make({"config": json.loads(f"{{{member}}}")})
    with pytest.raises((StorageError, RuntimeError)):
        container_storage.create("odd", image)
    assert "odd" not in container_storage.containers()


@pytest.mark.parametrize(
    "twice", ['"OnBuild":[],"OnBuild":["RUN touch /ran"]', '"OnBuild":["RUN touch /ran"],"onbuild":null']
)
def test_members_that_come_twice_run_nothing(
    container_storage: ContainerStorage, tiny_image: str, twice: str
) -> None:
    """Whichever counts, no trigger runs."""
    rootfs = json.dumps(container_storage.image_config(tiny_image)["rootfs"])
    text = f'{{"architecture":"amd64","os":"linux","rootfs":{rootfs},"config":{{{twice}}}}}'
    id = container_storage.make_image(text.encode(), tiny_image)
    assert made_from(container_storage, id) == made_from(container_storage, tiny_image)


def test_triggers_of_dockers_format_outlive_the_layout(
    container_storage: ContainerStorage, buildah: Buildah, layout: OciLayout, with_triggers: WithTriggers,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Through an archive of docker and the layout, triggers, health check and shell are still there."""
    archive = f"docker-archive:{tmp_path / 'image.tar'}"
    buildah.run("skopeo", "copy", "--quiet", with_triggers("RUN one", "ENV A=b"), archive)
    artifact = layout.import_source(container_storage, archive, "kept")
    config = layout.config(artifact.digest)["config"]
    assert config["OnBuild"] == ["RUN one", "ENV A=b"]
    assert config["Healthcheck"]["Test"] == ["CMD", "true"] and config["Shell"] == ["/bin/bash", "-c"]
    kept = layout.ensure_in_storage(container_storage, artifact.digest)
    assert container_storage.plain_image(kept).triggers == ("RUN one", "ENV A=b")


@pytest.mark.parametrize(
    ("history", "number", "moment"),
    [
        ([{"created": "1970-01-01T00:01:40Z"}], 0, 100),
        ([{"created": "1970-01-01T01:01:40.123456789+01:00"}], 0, 100),
        ([{"created": "1970-01-01T00:00:07Z", "empty_layer": True}, {"created": "1970-01-01T00:01:40Z"}], 0, 100),
        ([{"created": "1970-01-01T00:01:40Z"}], 1, None),
        ([{"comment": "without a time"}], 0, None),
        ([{"created": "yesterday"}], 0, None),
        ([{"created": 5}], 0, None),
        (["text"], 0, None),
        (None, 0, None),
    ],
)
def test_the_time_of_a_layer_is_that_of_its_entry(history: Any, number: int, moment: int | None) -> None:
    """Entries without a layer do not count; what cannot be read has no time."""
    assert layer_moment(json.dumps({"history": history}).encode(), number) == moment
