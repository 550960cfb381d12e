"""A worker whose images lifecycle executions act on, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.builds.records import ImageRecords
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from testing.clocks import MovingClock


@pytest.fixture
def worker_context(database: Database, clock: MovingClock, tmp_path: Path) -> Iterator[WorkerContext]:
    opened = WorkerContext.open(Settings(tmp_path / "data"), ImageRecords(database, clock), clock)
    yield opened
    opened.close()
