"""Registries of Debian's package, one open and one that wants a login."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distribution.registry_support import RunningRegistry


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = RunningRegistry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.kill()


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    registry = RunningRegistry(tmp_path_factory.mktemp("registry"), login=True)
    registry.start()
    yield registry
    registry.kill()


@pytest.fixture
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry that was not started yet and belongs to one test."""
    registry = RunningRegistry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.kill()
