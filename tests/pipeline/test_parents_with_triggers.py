"""ONBUILD triggers of a parent run sealed, first, once, in their order and for a BUILD instance only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from testing.buildah import Buildah, opened_buildah
from testing.containers import import_tiny_image, opened_storage
from testing.network import listener
from testing.pipeline_support import Forge, RunningServer, image_config, uris
from testing.registry_support import RunningRegistry

TRIGGERS = (
    "ARG WORD=trigger",
    "RUN cat /order > /before-me 2>/dev/null; echo $WORD >> /order; env > /env-of-trigger",
    "COPY . /context",
    "ENV TRIGGERED=yes",
)
TEMPLATE = """\
FROM {{{ imagebuilder:parentImage }}}
RUN echo template >> /order
{{{ imagebuilder:environments }}}
{{{ imagebuilder:components }}}
RUN echo "after $WORD" >> /order
"""
BARE = "FROM {{{ imagebuilder:parentImage }}}\n{{{ imagebuilder:environments }}}\n{{{ imagebuilder:components }}}\n"


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Buildah, ContainerStorage]]:
    """What makes parents, and a storage with the tiny image."""
    folder = tmp_path_factory.mktemp("parents")
    with opened_storage(folder) as opened, opened_buildah(folder / "buildah") as buildah:
        import_tiny_image(opened)
        yield buildah, opened


class Parents:
    """Images with triggers, brought to where builds find them."""

    def __init__(self, maker: tuple[Buildah, ContainerStorage], registry: RunningRegistry, layouts: Path) -> None:
        self._buildah, self._storage = maker
        self._registry = registry
        self._layouts = layouts

    def make(self, place: str, name: str, triggers: tuple[str, ...]) -> str:
        """The `parentImage` text of a tiny image in `registry`, `oci`, `oci-archive` or `docker-archive`; `-oci`
        behind it asks for an OCI configuration that holds the triggers."""
        transport, _, oci = place.partition("+")
        source = self._docker(triggers)
        if oci:
            source = self._as_oci(name, source, triggers)
        reference = f"{self._registry.host}/{name}:1" if transport == "registry" else f"{self._layouts / name}:x:1"
        target = f"docker://{reference}" if transport == "registry" else f"{transport}:{reference}"
        options = ["--dest-tls-verify=false", *([] if oci or transport != "registry" else ["--format=v2s2"])]
        self._buildah.run("skopeo", "copy", "--quiet", *options, source, target)
        return reference if transport == "registry" else f"{transport}:{self._layouts / name}:x:1"

    def _docker(self, triggers: tuple[str, ...]) -> str:
        tiny = self._storage.images()[0]
        return self._buildah.docker_image(self._storage, tiny, [f"--onbuild={trigger}" for trigger in triggers])

    def _as_oci(self, name: str, source: str, triggers: tuple[str, ...]) -> str:
        """The image as BuildKit would write it: OCI media types, and OnBuild in the configuration."""
        folder = self._layouts / f"{name}-made"
        self._buildah.run("skopeo", "copy", "--quiet", source, f"oci:{folder}:1")
        blobs = folder / "blobs" / "sha256"

        def read(digest: str) -> dict[str, Any]:
            return dict(json.loads((blobs / digest.removeprefix("sha256:")).read_text()))

        def put(document: dict[str, Any]) -> dict[str, Any]:
            data = json.dumps(document).encode()
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
            return {"digest": f"sha256:{digest}", "size": len(data)}

        index = json.loads((folder / "index.json").read_text())
        manifest = read(index["manifests"][0]["digest"])
        config = read(manifest["config"]["digest"])
        config.setdefault("config", {})["OnBuild"] = list(triggers)
        manifest["config"] |= put(config)
        index["manifests"][0] |= put(manifest)
        (folder / "index.json").write_text(json.dumps(index))
        return f"oci:{folder}:1"


@pytest.fixture(scope="module")
def parents(maker: tuple[Buildah, ContainerStorage], open_registry: RunningRegistry, tiny_parent: str) -> Parents:
    return Parents(maker, open_registry, Path(tiny_parent.split(":")[1]).parent)


PLACES = ["registry", "registry+oci", "oci+oci", "oci-archive+oci", "docker-archive"]


@pytest.mark.parametrize("place", PLACES)
def test_triggers_run_first_and_once(forge: Forge, parents: Parents, place: str) -> None:
    """Before the template's lines and the components, once, in the sandbox; the image that is built has none, and
    neither a test nor a build on the image runs them again."""
    parent = parents.make(place, f"first-{PLACES.index(place)}", TRIGGERS)
    component = forge.component(
        build='test "$TRIGGERED" = yes; echo component >> /order',
        test="test \"$(cat /order | tr '\\n' ' ')\" = 'trigger template component after trigger ' || exit 1\n"
        "test ! -s /before-me || exit 2\n"
        'test -z "$(ls -A /context)" || exit 3\n'
        "if grep -i -e imagesmith -e aws /env-of-trigger; then exit 4; fi",
    )
    image = forge.build(forge.recipe(component, parentImage=parent, dockerfileTemplateData=TEMPLATE))
    assert "ONBUILD triggers of the parent" in forge.server.log(image["arn"])
    config = image_config(f"docker://{uris(image)[0]}")["config"]
    assert "OnBuild" not in config and "TRIGGERED=yes" in config["Env"]
    if place == PLACES[0]:
        look = forge.component(build="test $(grep -cx trigger /order) = 1")
        forge.build(forge.recipe(look, parentImage=image["arn"]))


def test_a_template_of_nothing_but_variables_runs_them_too(forge: Forge, parents: Parents) -> None:
    """There is no Dockerfile part otherwise."""
    parent = parents.make("registry", "bare", ("RUN echo trigger >> /order",))
    component = forge.component(build='test "$(cat /order)" = trigger')
    forge.build(forge.recipe(component, parentImage=parent, dockerfileTemplateData=BARE))


@pytest.mark.parametrize("place", ["registry", "oci+oci"])
def test_a_trigger_reads_no_file_of_the_host(
    forge: Forge, server: RunningServer, parents: Parents, tmp_path: Path, place: str
) -> None:
    """COPY and ADD find nothing, as the build context is empty; the instruction is named."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    parent = parents.make(place, f"reads-{PLACES.index(place)}", (f"COPY {secret} /stolen",))
    image = forge.build(
        forge.recipe(forge.component(build="true"), parentImage=parent, dockerfileTemplateData=BARE), "FAILED"
    )
    assert f"COPY {secret}" in image["state"]["reason"]
    assert not any(_holds(server.data_dir / "containers", b"hunter2"))


def test_a_trigger_does_not_reach_the_network_of_the_host(forge: Forge, parents: Parents) -> None:
    """Its RUN and ADD see the sandbox's network, not the loopback of the host."""
    with listener("127.0.0.1") as port:
        reach = f"RUN bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3' > /reached 2>&1; true"
        parent = parents.make("registry", "network", (reach,))
        look = forge.component(build="if grep hello /reached; then exit 1; fi")
        forge.build(forge.recipe(look, parentImage=parent, dockerfileTemplateData=BARE))
        parent = parents.make("registry", "download", (f"ADD http://127.0.0.1:{port}/ /x",))
        forge.build(forge.recipe(look, parentImage=parent, dockerfileTemplateData=BARE), "FAILED")


@pytest.mark.parametrize("trigger", [f"COPY --from={'a' * 64} /x /y", "RUN x\nCOPY --from=ab /x /y"])
def test_triggers_that_may_not_run_are_named(forge: Forge, parents: Parents, trigger: str) -> None:
    """The reason says that it is a trigger of the parent, and what is wrong with it."""
    parent = parents.make("registry+oci", forge.name("bad"), (trigger,))
    image = forge.build(
        forge.recipe(forge.component(build="true"), parentImage=parent, dockerfileTemplateData=BARE), "FAILED"
    )
    assert "trigger" in image["state"]["reason"] and "the parent image" in image["state"]["reason"]


def _holds(folder: Path, text: bytes) -> Iterator[bool]:
    for path in folder.rglob("stolen"):
        yield path.is_file() and text in path.read_bytes()
