"""What tests of single steps run on: a step of a run, with a workshop of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.builds.machine_build import MachineBuild
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.steps.context import StepRun
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.processes import Cancellation
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from testing.clocks import MovingClock
from testing.plans import ARN, PLAN


@pytest.fixture
def run(sqlite_database: Database, clock: MovingClock, tmp_path: Path) -> Iterator[StepRun]:
    """A step of the BUILD workflow of PLAN's image."""
    worker_context = WorkerContext.open(Settings(tmp_path / "data"), ImageRecords(sqlite_database, clock), clock)
    with worker_context.log(ARN) as log:
        yield StepRun(
            worker_context, PLAN, log, Cancellation(), kind=MachineBuild(), type="BUILD", execution="wf-1",
            step_id="step-1",
            step_name="Register",
            digest="", seconds_left=60.0,
        )  # fmt: skip
    worker_context.close()
