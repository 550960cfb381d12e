"""Builds on the tiny image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from testing.buildah import opened_buildah
from testing.dockerfile_oracle import BuildahBuilds
from testing.dockerfile_support import DockerfileBench
from testing.oracle_builds import DockerfileOracle, OwnBuilds
from testing.oracle_parents import OracleParents


@pytest.fixture
def bench(container_storage: ContainerStorage, tiny_image: str) -> DockerfileBench:
    return DockerfileBench(container_storage, tiny_image)


@pytest.fixture(scope="session")
def oracle(
    container_storage: ContainerStorage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerfileOracle]:
    """imagesmith and Debian's buildah, each with a storage of its own and the parents of the corpus."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "parents").mkdir()
    parents = OracleParents.make(folder / "parents")
    own = OwnBuilds.make(folder / "layout", container_storage, parents)
    with opened_buildah(folder / "buildah") as buildah:
        yield DockerfileOracle(own, BuildahBuilds(buildah, folder / "builds", parents))
