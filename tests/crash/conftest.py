"""A server whose registry is behind a gate; after every test nothing of its builds is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distribution.registry_support import RunningRegistry
from pipeline.conftest import open_registry, tiny_parent
from pipeline.leaks import assert_clean
from pipeline.pipeline_support import REGION, Gate, RunningServer, gate

__all__ = ["open_registry", "tiny_parent"]


@pytest.fixture(scope="session")
def registry_gate(open_registry: RunningRegistry) -> Iterator[Gate]:
    with gate(open_registry.host) as opened:
        yield opened


@pytest.fixture(scope="session")
def crash_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, registry_gate: Gate
) -> Iterator[RunningServer]:
    """One data directory for all tests here; use `server`, which runs."""
    folder = tmp_path_factory.mktemp("crash") / "data"
    with RunningServer(folder, parent=tiny_parent, registries={REGION: registry_gate.host}) as running:
        yield running
        if running.pid:
            running.stop()
        assert_clean(running)


@pytest.fixture
def server(crash_server: RunningServer, registry_gate: Gate) -> Iterator[RunningServer]:
    """A server that runs; builds of the test must be over in the end, and have left nothing."""
    registry_gate.open()
    if not crash_server.pid:
        crash_server.start()
    yield crash_server
    assert_clean(crash_server)
