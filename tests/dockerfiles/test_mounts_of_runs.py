"""A RUN with mounts gets what it names, and no way to the layers of other builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from imagesmith.dockerfiles.build import DockerfileFailed, build_dockerfile
from imagesmith.instances.runtime_program import linked_volume

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfiles.template import check_template
from imagesmith.instances.limits import ResourceLimits

pytestmark = pytest.mark.tool

PARENT = "FROM {{{ imagebuilder:parentImage }}}\n"
ODD = (
    "RUN --mount=type=cache,id=a/../b,target=/x true",
    'RUN --mount="type=cache,id=a/../b,target=/x" true',
    "ARG M=x\nRUN --mount=$M true",
    "ARG M=x\nRUN --mount=type=cache,id=${M},target=/x true",
    "ONBUILD RUN --mount=type=cache,id=a/../b,target=/x true",
    "RUN --mount=type=bind,source=a/../b,target=/x true",
    "RUN --mount=type=bind,from=docker.io/x,source=/l,target=/x true",
    "RUN --mount=type=bind,from=docker.io/x,source=/,src=/l,target=/x true",
    "RUN --mount=type=cache,target=/a,dst=/b true",
    "RUN --mount=type=cache,from=docker.io/x,src=/l,target=/x true",
    "RUN --mount=type=cache,target=/c true\nRUN --mount=type=cache,target=/c/x true",
    "RUN --mount=type=cache,id=c/x,target=/c true\nRUN --mount=type=cache,target=/c true",
)


def run(storage: ContainerStorage, text: str) -> str:
    return build_dockerfile(storage, text, name="mounts", limits=ResourceLimits(), timeout=60, network="none")


@pytest.mark.parametrize("line", ODD)
def test_a_mount_that_may_lead_out_of_its_folder_is_refused(
    container_storage: ContainerStorage, tiny_image: str, line: str
) -> None:
    """When the recipe is made, and in every Dockerfile that is built."""
    assert [problem.code for problem in check_template(f"{PARENT}{line}\n", has_components=False)] == ["mount"]
    with pytest.raises(DockerfileFailed, match=r"a (mount|cache) cannot"):
        build_dockerfile(
            container_storage, f"FROM {tiny_image}\n{line}\n", name="mounts", limits=ResourceLimits(), timeout=60,
            network="none", pull=lambda reference: reference,
        )  # fmt: skip


def test_mounts_of_stages_and_caches_work(container_storage: ContainerStorage, tiny_image: str) -> None:
    """Whole stages, caches, temporary folders and volumes."""
    run(
        container_storage,
        f"FROM {tiny_image} AS one\nRUN mkdir /k && echo 1 > /k/a && ln -s k /l\nFROM {tiny_image}\nVOLUME /v\n"
        "RUN --mount=type=bind,from=one,target=/x,rw test $(cat /x/k/a) = 1\n"
        "RUN --mount=type=cache,id=mine,target=/c --mount=type=cache,target=/d touch /c/b /d/b\n"
        "RUN --mount=type=cache,id=mine,target=/c test -e /c/b && touch /v/x\n"
        "RUN --mount=type=tmpfs,target=/t --mount=type=bind,target=/ctx touch /t/a\n",
    )


def test_a_volume_whose_path_is_a_link_is_known(tmp_path: Path) -> None:
    """The runtime refuses to start a RUN with it; other mounts may be at the end of a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    def found(destination: str, source: str) -> str:
        return linked_volume({"mounts": [{"destination": destination, "source": source}]}, str(tmp_path))

    for source in ("/s/c/userdata/overlay/1/merge", "/s/c/userdata/buildah-volumes/ab"):
        assert found("/real/v", source) == "" and found("/none/v", source) == ""
        assert found("/link/v", source) == "/link/v" and found("/link", source) == "/link"
    assert found("/link/hosts", "/s/c/userdata/hosts") == ""


def test_a_volume_of_a_parent_and_of_a_template_work(container_storage: ContainerStorage, tiny_image: str) -> None:
    """Without links they are what they were."""
    image = run(container_storage, f"FROM {tiny_image}\nRUN mkdir -p /p/v\nVOLUME /p/v\nRUN test -d /p/v\n")
    run(container_storage, f"FROM {image}\nRUN test -d /p/v\n")
