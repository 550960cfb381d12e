"""A template that is built in two phases, around its components, is what it would be in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.container import ContainerInstance
from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool

INSTRUCTIONS = (
    'CMD ["one", "two"]', "CMD echo $A", 'ENTRYPOINT ["/bin/cat", "-"]', "ENTRYPOINT exec cat",
    "ENV A=1", "ENV A=2 B=$A", 'ENV C="x y"', "ARG P=arg", "ENV Q=$P", "ARG A=other", "LABEL l=$A", "LABEL m=n",
    "USER nobody", "USER root", "WORKDIR /srv", "WORKDIR deeper", "EXPOSE 80", "EXPOSE 81/udp", "STOPSIGNAL SIGINT",
    'SHELL ["/bin/bash", "-c"]', 'VOLUME ["/data"]', "HEALTHCHECK --retries=5 CMD cat", "HEALTHCHECK NONE",
    "ONBUILD RUN echo one", "ONBUILD ENV ONE=1",
)  # fmt: skip


def config_of(storage: ContainerStorage, image: str) -> dict[str, Any]:
    config: Mapping[str, Any] = storage.image_config(image)["config"]
    return {name: sorted(value) if name == "Env" else value for name, value in config.items()}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(INSTRUCTIONS), max_size=5), st.lists(st.sampled_from(INSTRUCTIONS), max_size=5))
@example(['CMD ["one", "two"]'], ['ENTRYPOINT ["/bin/cat", "-"]'])
@example(["ARG P=arg", "ARG A=$P"], ["ENV B=$A"])
@example(['SHELL ["/bin/bash", "-c"]', "CMD echo $A"], ["ENTRYPOINT exec cat", "CMD echo $A"])
@example(["ONBUILD RUN a", "HEALTHCHECK CMD a", 'SHELL ["/bin/bash", "-c"]'], [])
@example(["ONBUILD RUN a", 'SHELL ["/bin/bash", "-c"]'], ["ONBUILD RUN b", "HEALTHCHECK CMD b"])
@example(["WORKDIR /srv", "USER nobody"], ["WORKDIR deeper"])
def test_the_cut_changes_nothing_of_the_configuration(
    container_storage: ContainerStorage, tiny_image: str, before: list[str], after: list[str]
) -> None:
    """Commands, variables, user, folders, labels and ports end as without the cut, wherever it is."""
    bench = DockerfileBench(container_storage, tiny_image, "phases")
    environments, components = "{{{ imagebuilder:environments }}}", "{{{ imagebuilder:components }}}"
    whole = bench.build("\n".join([environments, *before, *after]))
    build = bench.make("\n".join([f"FROM {PARENT}", environments, *before, components, *after, ""]))
    image = build.after_components(build.before_components())
    assert config_of(container_storage, image) == config_of(container_storage, whole)


def test_what_only_dockers_format_holds_is_in_the_image(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """A health check, a shell and triggers of a Dockerfile; the first two of its parent too, through components."""
    lines = 'SHELL ["/bin/bash", "-c"]\nHEALTHCHECK --interval=5s CMD true\nONBUILD RUN echo x\nWORKDIR /srv\n'
    bench = DockerfileBench(container_storage, tiny_image, "phases")
    first = bench.build(lines)
    config = container_storage.image_config(first)
    members = {"Shell": ["/bin/bash", "-c"], "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9}}
    assert members.items() <= config["config"].items() and config["config"]["OnBuild"] == ["RUN echo x"]
    # nothing else of docker's format is left
    assert set(config) == {"architecture", "os", "created", "config", "rootfs", "history"}
    instance = ContainerInstance.launch(container_storage, first, name="members", network="none")
    try:
        second = instance.commit(created_by="components")
    finally:
        instance.close()
    third = DockerfileBench(container_storage, second, "phases").build('RUN test "$BASH" && echo > /made')
    for image in (second, third):
        kept = container_storage.image_config(image)["config"]
        assert members.items() <= kept.items() and "OnBuild" not in kept


def test_a_stage_runs_the_triggers_of_the_stage_that_it_is_from(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """As `docker build` does."""
    bench = DockerfileBench(container_storage, tiny_image, "phases")
    text = f"FROM {PARENT} AS a\nONBUILD RUN echo 1 > /t\nFROM a\nRUN test $(cat /t) = 1\n"
    assert bench.make(text).whole()


def test_stages_from_before_the_components_are_there_after_them(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """By name and by number, for COPY and for mounts; the components' stage is one of them."""
    bench = DockerfileBench(container_storage, tiny_image, "phases")
    for line in ("COPY --from=tools /t /u", "COPY --from=0 /t /u", "RUN --mount=from=tools,target=/m cp /m/t /u"):
        build = bench.make(
            f"FROM {PARENT} AS tools\nRUN echo tool > /t\nFROM {PARENT} AS main\n"
            "{{{ imagebuilder:environments }}}\n"
            f"RUN echo one > /one\n{{{{{{ imagebuilder:components }}}}}}\n{line}\nFROM {PARENT}\n"
            "COPY --from=main /one /u /both/\n"
        )
        image = build.after_components(build.before_components())
        assert bench.read(image, "/both/u") == "tool\n" and bench.read(image, "/both/one") == "one\n"


def test_components_right_on_the_parent_need_no_build_before_or_after(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """The parent itself is what they run on, and what they leave is the image."""
    bench = DockerfileBench(container_storage, tiny_image, "phases")
    lines = "{{{ imagebuilder:environments }}}\n{{{ imagebuilder:components }}}\n"
    build = bench.make(f"FROM {PARENT}\n{lines}")
    assert build.before_components() == tiny_image
    image = build.after_components(tiny_image)
    # all that it lacked is the PATH that every image has
    assert build.after_components(image) == image
    assert bench.config(image) == bench.config(tiny_image) and "STEP 2" not in bench.output
