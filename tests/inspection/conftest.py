"""A server with a registry, for tests that look into what a build really leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing.pipeline_support import REGION, Forge, RunningServer
from testing.registry_support import RunningRegistry


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, open_registry: RunningRegistry
) -> Iterator[RunningServer]:
    """A server whose region has a registry."""
    folder = tmp_path_factory.mktemp("inspected") / "data"
    with RunningServer(folder, parent=tiny_parent, registries={REGION: open_registry.host}) as running:
        yield running.start()
        running.stop()


@pytest.fixture
def forge(server: RunningServer) -> Forge:
    """Makes and builds things on the server."""
    return server.forge
