"""A template that is cut at its components gives the image that the uncut one would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from imagesmith.dockerfiles.build import build_dockerfile

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfiles.placeholders import fill_parent
from imagesmith.dockerfiles.template import DockerfileParts, split_template
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import ResourceLimits

pytestmark = pytest.mark.tool

INSTRUCTIONS = (
    'CMD ["one", "two"]', "CMD echo $A", 'ENTRYPOINT ["/bin/cat", "-"]', "ENTRYPOINT exec cat",
    "ENV A=1", "ENV A=2 B=$A", 'ENV C="x y"', "ARG P=arg", "ENV Q=$P", "ARG A=other", "LABEL l=$A", "LABEL m=n",
    "USER nobody", "USER root", "WORKDIR /srv", "WORKDIR deeper", "EXPOSE 80", "EXPOSE 81/udp", "STOPSIGNAL SIGINT",
    'SHELL ["/bin/bash", "-c"]', 'VOLUME ["/data"]', "HEALTHCHECK --retries=5 CMD cat", "HEALTHCHECK NONE",
    "ONBUILD RUN echo one", "ONBUILD ENV ONE=1",
)  # fmt: skip


def build(storage: ContainerStorage, text: str) -> str:
    return build_dockerfile(storage, text, name="equivalence", limits=ResourceLimits(), timeout=60, network="none")


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
    head = "FROM {{{ imagebuilder:parentImage }}}\n{{{ imagebuilder:environments }}}\n"
    lines = ["{{{ imagebuilder:components }}}"]
    whole = build(container_storage, fill_parent(f"{head}" + "\n".join([*before, *after]), tiny_image).replace(
        "{{{ imagebuilder:environments }}}\n", ""
    ))  # fmt: skip
    parts = split_template(head + "\n".join([*before, *lines, *after]) + "\n")
    image = build(container_storage, fill_parent(parts.before, tiny_image)) if parts.before else tiny_image
    if parts.after:
        text = fill_parent(parts.after.replace(DockerfileParts.BASE, image), tiny_image)
        image = build(container_storage, text)
    assert config_of(container_storage, image) == config_of(container_storage, whole)


def test_what_only_dockers_format_holds_is_in_the_image(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """A health check, a shell and triggers of a Dockerfile; the first two of its parent too, through components."""
    lines = 'SHELL ["/bin/bash", "-c"]\nHEALTHCHECK --interval=5s CMD true\nONBUILD RUN echo x\nWORKDIR /srv\n'
    first = build(container_storage, f"FROM {tiny_image}\n{lines}")
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
    third = build(container_storage, f'FROM {second}\nRUN test "$BASH" && echo > /made\n')
    for image in (second, third):
        kept = container_storage.image_config(image)["config"]
        assert members.items() <= kept.items() and "OnBuild" not in kept


def test_a_stage_runs_the_triggers_of_the_stage_that_it_is_from(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """As `docker build` does."""
    text = f"FROM {tiny_image} AS a\nONBUILD RUN echo 1 > /t\nFROM a\nRUN test $(cat /t) = 1\n"
    assert build(container_storage, text)
