"""One server for the whole folder, with a registry; every test leaves it without a trace of its builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distribution.conftest import open_registry
from distribution.registry_support import RunningRegistry
from pipeline.leaks import assert_clean
from pipeline.pipeline_support import REGION, Forge, RunningServer, tiny_layout

__all__ = ["open_registry"]


@pytest.fixture(scope="session")
def tiny_parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The `parentImage` text of the tiny image."""
    return tiny_layout(tmp_path_factory.mktemp("layouts") / "tiny")


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, open_registry: RunningRegistry
) -> Iterator[RunningServer]:
    """A server whose region has a registry."""
    folder = tmp_path_factory.mktemp("server") / "data"
    with RunningServer(folder, parent=tiny_parent, registries={REGION: open_registry.host}) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


@pytest.fixture
def forge(server: RunningServer) -> Iterator[Forge]:
    """Makes and builds things on the server; no build may leave anything behind."""
    yield server.forge
    assert_clean(server)


@pytest.fixture
def layouts(tiny_parent: str) -> Path:
    """The folder that local parents may be in."""
    return Path(tiny_parent.split(":")[1]).parent
