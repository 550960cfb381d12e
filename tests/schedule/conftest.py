"""A server without HTTP on either database, with a recipe `web` and an infrastructure `infra`."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.store.database import Database
from testing.clock_support import Factory, SetClock


@pytest.fixture
def any_factory(database: Database, tmp_path: Path, now: SetClock) -> Factory:
    """A server on SQLite and on PostgreSQL."""
    made = Factory(database, tmp_path / "data", clock=now)
    made.recipe()
    made.infrastructure()
    return made
