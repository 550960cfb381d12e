"""Schedules over HTTP: what clients see before, at and after a tick of the running clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagesmith.resources.service import Service
from imagesmith.schedule.clock import Scheduler
from imagesmith.settings import Settings
from testing.api import ACCOUNT, REGION, Api
from testing.loaded import managed_content

SCHEDULE: dict[str, Any] = {
    "scheduleExpression": "rate(1 hour)", "pipelineExecutionStartCondition": "EXPRESSION_MATCH_ONLY",
    "autoDisablePolicy": {"failureCount": 1},
}  # fmt: skip


@pytest.fixture
def scheduler(api: Api, tmp_path: Path) -> Scheduler:
    """The clock of another server on the same store."""
    settings = Settings(data_dir=tmp_path / "data", account=ACCOUNT, region=REGION)
    service = Service(api.database, settings, clock=api.clock, managed=managed_content(), builds=api.builds)
    return Scheduler(service, api.database, clock=api.clock)


def test_a_scheduled_run_shows_in_every_answer(api: Api, scheduler: Scheduler) -> None:
    """buildType, tags, sourcePipelineArn, dateLastRun, dateNextRun and the list of the pipeline's images."""
    arn = api.pipeline(schedule=SCHEDULE, imageTags={"team": "a"})
    assert api.get_pipeline(arn)["dateNextRun"] == "2026-11-23T13:00:00.000Z"
    assert scheduler.tick() == []
    api.clock.advance(hours=1)
    scheduler.tick()
    (image,) = api.builds.started
    shown = api.client.get_image(imageBuildVersionArn=image)["image"]
    assert (shown["buildType"], shown["sourcePipelineArn"], shown["tags"]) == ("SCHEDULED", arn, {"team": "a"})
    listed = api.client.list_image_pipeline_images(imagePipelineArn=arn)["imageSummaryList"]
    assert [item["arn"] for item in listed] == [image]
    pipeline = api.get_pipeline(arn)
    assert pipeline["dateLastRun"].startswith("2026-11-23T13:00:0") and pipeline["lastRunStatus"] == "PENDING"
    assert pipeline["dateNextRun"] == "2026-11-23T14:00:00.000Z"
    assert not [name for name in pipeline if name.startswith("_")]


def test_automatic_disabling_shows_and_an_update_ends_it(api: Api, scheduler: Scheduler) -> None:
    """DISABLED without a next run but with its schedule; enabled again with a count of 0."""
    arn = api.pipeline(schedule=SCHEDULE)
    api.clock.advance(hours=1)
    scheduler.tick()
    api.set_state(api.builds.started[0], "FAILED")
    pipeline = api.get_pipeline(arn)
    assert (pipeline["status"], pipeline["consecutiveFailures"]) == ("DISABLED", 1)
    assert "dateNextRun" not in pipeline and pipeline["schedule"]["scheduleExpression"] == "rate(1 hour)"
    assert pipeline["dateUpdated"] > pipeline["dateCreated"]
    api.clock.advance(hours=5)
    assert scheduler.tick() == []
    api.client.update_image_pipeline(
        imagePipelineArn=arn, containerRecipeArn=pipeline["containerRecipeArn"],
        infrastructureConfigurationArn=pipeline["infrastructureConfigurationArn"], schedule=SCHEDULE,
    )  # fmt: skip
    pipeline = api.get_pipeline(arn)
    assert (pipeline["status"], pipeline["consecutiveFailures"]) == ("ENABLED", 0)
    api.clock.advance(hours=1)
    scheduler.tick()
    assert len(api.builds.started) == 2


def test_a_deleted_and_recreated_pipeline_starts_anew(api: Api, scheduler: Scheduler) -> None:
    """The same ARN, the old images, and a schedule that counts from its own creation."""
    arn = api.pipeline(schedule=SCHEDULE)
    members = api.get_pipeline(arn)
    api.clock.advance(hours=1)
    scheduler.tick()
    api.client.delete_image_pipeline(imagePipelineArn=arn)
    api.clock.advance(minutes=30)
    assert scheduler.tick() == []
    again = api.pipeline(
        schedule=SCHEDULE, containerRecipeArn=members["containerRecipeArn"],
        infrastructureConfigurationArn=members["infrastructureConfigurationArn"],
    )  # fmt: skip
    assert again == arn and "dateLastRun" not in api.get_pipeline(arn)
    assert api.get_pipeline(arn)["dateNextRun"] == "2026-11-23T14:30:00.000Z"
    listed = api.client.list_image_pipeline_images(imagePipelineArn=arn)["imageSummaryList"]
    assert [item["arn"] for item in listed] == api.builds.started
