"""Builds on the tiny image."""

from __future__ import annotations

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from testing.dockerfile_support import DockerfileBench


@pytest.fixture
def bench(container_storage: ContainerStorage, tiny_image: str) -> DockerfileBench:
    return DockerfileBench(container_storage, tiny_image)
