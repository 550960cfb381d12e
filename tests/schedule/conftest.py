"""A server without HTTP on either database, with a recipe `web` and an infrastructure `infra`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from imagesmith.settings import Registry, Schedules
from imagesmith.store.database import Database
from schedule.clock_support import Factory, SetClock

MakeFactory = Callable[..., Factory]


@pytest.fixture
def now() -> SetClock:
    return SetClock()


@pytest.fixture
def make_factory(sqlite_database: Database, tmp_path: Path, now: SetClock) -> MakeFactory:
    """Servers on one SQLite database, with other settings of schedules."""

    def make(policy: Schedules | None = None, registries: Mapping[str, Registry] | None = None) -> Factory:
        return Factory(sqlite_database, tmp_path / "data", clock=now, policy=policy, registries=registries)

    return make


@pytest.fixture
def factory(make_factory: MakeFactory) -> Factory:
    made = make_factory()
    made.recipe()
    made.infrastructure()
    return made


@pytest.fixture
def any_factory(database: Database, tmp_path: Path, now: SetClock) -> Factory:
    """The same on SQLite and on PostgreSQL."""
    made = Factory(database, tmp_path / "data", clock=now)
    made.recipe()
    made.infrastructure()
    return made
