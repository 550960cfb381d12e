"""What tests of single steps run on: a step of a run, with a workshop of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.processes import Cancellation
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.workflows.records import Records
from imagesmith.workflows.steps.context import StepRun
from imagesmith.workflows.workshop import Workshop
from support import MovingClock
from workflows.test_amis import ARN, PLAN


@pytest.fixture
def run(sqlite_database: Database, clock: MovingClock, tmp_path: Path) -> Iterator[StepRun]:
    """A step of the BUILD workflow of PLAN's image."""
    shop = Workshop.open(Settings(tmp_path / "data"), Records(sqlite_database, clock), clock)
    with shop.log(ARN) as log:
        yield StepRun(
            shop, PLAN, log, Cancellation(), type="BUILD", execution="wf-1", step_id="step-1", step_name="Register",
            digest="", seconds_left=60.0,
        )  # fmt: skip
    shop.close()
