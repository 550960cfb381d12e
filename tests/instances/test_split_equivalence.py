"""A template that is cut at its components gives the image that the uncut one would give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.dockerfile_build import build_dockerfile
from imagesmith.instances.limits import Limits
from imagesmith.recipes.dockerfile import DockerfileParts, fill_parent, split_template

pytestmark = pytest.mark.tool

INSTRUCTIONS = (
    'CMD ["one", "two"]', "CMD echo $A", 'ENTRYPOINT ["/bin/cat", "-"]', "ENTRYPOINT exec cat",
    "ENV A=1", "ENV A=2 B=$A", 'ENV C="x y"', "ARG P=arg", "ENV Q=$P", "ARG A=other", "LABEL l=$A", "LABEL m=n",
    "USER nobody", "USER root", "WORKDIR /srv", "WORKDIR deeper", "EXPOSE 80", "EXPOSE 81/udp", "STOPSIGNAL SIGINT",
    'SHELL ["/bin/bash", "-c"]', 'VOLUME ["/data"]',
)  # fmt: skip


def build(storage: ContainerStorage, text: str) -> str:
    return build_dockerfile(storage, text, name="equivalence", limits=Limits(), timeout=60, network="none")


def config_of(storage: ContainerStorage, image: str) -> dict[str, Any]:
    config: dict[str, Any] = storage.image_config(image)["config"]
    return {name: sorted(value) if name == "Env" else value for name, value in config.items()}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(INSTRUCTIONS), max_size=5), st.lists(st.sampled_from(INSTRUCTIONS), max_size=5))
@example(['CMD ["one", "two"]'], ['ENTRYPOINT ["/bin/cat", "-"]'])
@example(["ARG P=arg", "ARG A=$P"], ["ENV B=$A"])
@example(['SHELL ["/bin/bash", "-c"]', "CMD echo $A"], ["ENTRYPOINT exec cat", "CMD echo $A"])
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
