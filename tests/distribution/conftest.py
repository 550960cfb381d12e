"""A registry that wants a login."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testing.registry_support import RunningRegistry


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = RunningRegistry(tmp_path_factory.mktemp("registry"), login=True)
    registry.start()
    yield registry
    registry.kill()
