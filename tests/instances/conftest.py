"""Containers on the tiny image."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.container import ContainerInstance
from testing.containers import Launch


@pytest.fixture
def launch(container_storage: ContainerStorage, tiny_image: str) -> Iterator[Launch]:
    """Launch containers that are closed after the test; without network unless the test asks for one."""
    numbers = count()
    launched: list[ContainerInstance] = []

    def make(image: str = tiny_image, **options: Any) -> ContainerInstance:
        options = {"name": f"test-{next(numbers)}", "network": "none", **options}
        launched.append(ContainerInstance.launch(container_storage, image, **options))
        return launched[-1]

    yield make
    for instance in launched:
        instance.close()


@pytest.fixture
def instance(launch: Launch) -> ContainerInstance:
    """One container without network."""
    return launch()
