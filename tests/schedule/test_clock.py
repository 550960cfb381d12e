"""The running clock on real databases: every rule of a tick, moved by a clock that tests set."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from clock_support import NOON, Factory, SetClock

from imagesmith.store.database import Database

HOUR = timedelta(hours=1)


@pytest.fixture
def now() -> SetClock:
    return SetClock()


@pytest.fixture
def factory(database: Database, tmp_path: Path, now: SetClock) -> Factory:
    """A server on either database with a recipe `web` and an infrastructure `infra`."""
    made = Factory(database, tmp_path / "data", clock=now)
    made.recipe()
    made.infrastructure()
    return made


def test_a_due_pipeline_starts_one_scheduled_build(factory: Factory, now: SetClock) -> None:
    """Not before its time; then once, with the image tags, its run state and its next run."""
    arn = factory.pipeline(imageTags={"team": "a"})
    factory.scheduler.tick()
    assert factory.builds.started == []
    now.now = NOON + HOUR + timedelta(seconds=3)
    factory.scheduler.tick()
    factory.scheduler.tick()
    (image,) = factory.builds.started
    record = factory.get(image)
    assert record.tags == {"team": "a"}
    assert record.document["buildType"] == "SCHEDULED" and record.document["sourcePipelineArn"] == arn
    document = factory.get(arn).document
    assert document["dateLastRun"] == "2026-11-23T13:00:03.000Z" and document["lastRunStatus"] == "PENDING"
    assert factory.next_run(arn) == "2026-11-23T14:00:00.000Z"
    assert factory.runs(arn) == [(NOON + HOUR, image)]
    assert "build: scheduled for 2026-11-23T13:00:00Z; next run 2026-11-23T14:00:00.000Z" in factory.log(arn)
    assert f"started {image} (SCHEDULED)" in factory.log(arn)
