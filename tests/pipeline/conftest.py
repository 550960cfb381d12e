"""One server for the whole folder, with a registry; every test leaves it without a trace of its builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distribution.conftest import open_registry
from distribution.registry_support import RunningRegistry
from pipeline.leaks import adopting_orphans, assert_clean, descendants
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
    with adopting_orphans():
        before = set(descendants())
        running = RunningServer(
            tmp_path_factory.mktemp("server") / "data", parent=tiny_parent, registries={REGION: open_registry.host}
        ).start()
        yield running
        running.stop()
        assert_clean(running, before)


@pytest.fixture
def forge(server: RunningServer) -> Iterator[Forge]:
    """Makes and builds things on the server; no build may leave anything behind."""
    before = set(descendants())
    yield server.forge
    assert_clean(server, before)


@pytest.fixture
def layouts(tiny_parent: str) -> Path:
    """The folder that local parents may be in."""
    return Path(tiny_parent.split(":")[1]).parent
