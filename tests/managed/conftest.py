"""The managed Debian base, bootstrapped from the package mirror: a minute, kept for all processes of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imagesmith.artifacts.bases import Bases
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.container import ContainerInstance
from imagesmith.managed.bases import managed_base
from testing.machines import bases_folder


@pytest.fixture(scope="session")
def debian(container_storage: ContainerStorage, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image id of the managed Debian base."""
    folder = bases_folder(lambda: tmp_path_factory.mktemp("bases"))
    bases = Bases(container_storage, OciLayout(folder / "oci"), folder=folder / "bases")
    base = managed_base("debian-x86-12")
    assert base is not None
    return bases.managed(base, on_line=lambda _: None).image_id


@pytest.fixture
def launch(container_storage: ContainerStorage, debian: str) -> Iterator[ContainerInstance]:
    instance = ContainerInstance.launch(container_storage, debian, name="managed")
    yield instance
    instance.close()
