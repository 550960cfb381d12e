"""`imagesmith schedule list` and `imagesmith pipeline plan`: what the store says will happen, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.context import CommandFailed
from imagesmith.cli.pipeline import pipeline
from imagesmith.cli.schedule import schedule
from imagesmith.settings import Schedules
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from testing.clock_support import ACCOUNT, OWN, REGION, Factory, MakeFactory, SetClock
from testing.clock_support import schedule as written

HOUR = timedelta(hours=1)


@pytest.fixture
def served(tmp_path: Path) -> Factory:
    """A data directory as a server leaves it, with a pipeline `pipe` that fires every hour."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.toml").write_text(f'account = "{ACCOUNT}"\nregion = "{REGION}"\n')
    database = Database(f"sqlite:///{data / 'imagesmith.sqlite'}")
    upgrade(database)
    factory = Factory(database, data, clock=SetClock(datetime.now(UTC)))
    factory.component()
    factory.recipe(components=[{"componentArn": f"{OWN}:component/hello/x.x.x"}])
    factory.infrastructure()
    factory.pipeline(always=False)
    database.close()
    return factory


def run(group: object, factory: Factory, *arguments: str) -> Result:
    group = pipeline if group == "pipeline" else schedule
    return CliRunner().invoke(
        group, [*arguments, "--data-dir", str(factory.settings.data_dir)], catch_exceptions=False
    )


def test_schedule_list_shows_the_next_day(served: Factory) -> None:
    """A line per pipeline with its next run, how often it runs, and when it builds."""
    lines = run("schedule", served, "list").stdout.splitlines()
    assert lines[0].split() == ["next", "run", "in", "runs", "pipeline", "starts", "expression", "zone"]
    assert "pipe" in lines[1] and "on updates" in lines[1] and "cron(0 * * * ? *)" in lines[1]
    (item,) = json.loads(run("schedule", served, "list", "--json").stdout)
    assert len(item["runs"]) == 24 and item["runs"][0].endswith(":00:00Z")
    assert item["name"] == "pipe" and item["timezone"] == "UTC"


def test_schedule_list_says_when_there_is_nothing(served: Factory) -> None:
    """An empty span is a sentence, or an empty list."""
    served.call("DeleteImagePipeline", imagePipelineArn=f"{OWN}:image-pipeline/pipe")
    assert run("schedule", served, "list", "--hours", "2").stdout == "no pipeline fires in the next 2 hours\n"
    assert json.loads(run("schedule", served, "list", "--json").stdout) == []


def test_commands_without_a_store_say_how_to_get_one(tmp_path: Path) -> None:
    """Nothing is created by asking."""
    with pytest.raises(CommandFailed, match="no database in"):
        CliRunner().invoke(schedule, ["list", "--data-dir", str(tmp_path)], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def plan(served: Factory) -> dict[str, object]:
    found: dict[str, object] = json.loads(run("pipeline", served, "plan", "pipe", "--json").stdout)
    return found


def test_pipeline_plan_tells_what_a_tick_would_do(served: Factory) -> None:
    """First build, no update, an update by name; resolved versions and the baseline beside them."""
    arn = f"{OWN}:image-pipeline/pipe"
    assert plan(served)["reason"] == "no image of this pipeline is AVAILABLE yet"
    image = served.call("StartImagePipelineExecution", imagePipelineArn=arn)["imageBuildVersionArn"]
    served.finish(image)
    same = plan(served)
    assert (same["builds"], same["reason"]) == (False, "no dependency has an update")
    assert same["baseline_image"] == image
    served.component("1.2.0")
    moved = plan(served)
    assert (moved["builds"], moved["reason"]) == (True, "component hello 1.0.0/1 -> 1.2.0/1")
    assert isinstance(moved["inputs"], list)
    roles = [item["role"] for item in moved["inputs"]]
    assert roles == ["recipe", "base", "component"]
    assert moved["inputs"][2] == {
        "role": "component",
        "reference": f"{OWN}:component/hello/x.x.x",
        "resolved": f"{OWN}:component/hello/1.2.0/1",
        "baseline": f"{OWN}:component/hello/1.0.0/1",
    }
    shown = run("pipeline", served, "plan", arn).stdout
    assert shown.startswith("it would build: component hello 1.0.0/1 -> 1.2.0/1\nnext run ")
    assert f"compared with {image}" in shown


def test_pipeline_plan_explains_what_keeps_it_from_building(served: Factory) -> None:
    """No schedule, DISABLED, and references that do not resolve."""
    arn = f"{OWN}:image-pipeline/pipe"
    component = f"{OWN}:component/hello/1.0.0/1"
    served.edit(component, status="DISABLED")
    broken = plan(served)
    assert broken["builds"] is False and broken["inputs"] == []
    assert "a run cannot be started: The following required resource 'Component'" in str(broken["reason"])
    served.edit(component, status="ACTIVE")
    served.edit(arn, status="DISABLED")
    assert "DISABLED" in str(plan(served)["reason"])
    served.update(arn)
    assert "has no schedule" in str(plan(served)["reason"])


def test_pipeline_plan_knows_policy_and_condition(make_factory: MakeFactory) -> None:
    """Without the dependency condition every tick builds; with overlap = skip not while a build runs."""
    from imagesmith.resources.dispatch import Caller
    from imagesmith.schedule.preview import PipelinePlan, plan_pipeline

    factory = make_factory(Schedules(overlap="skip"))
    factory.recipe()
    factory.infrastructure()
    arn = factory.pipeline()

    def judge() -> PipelinePlan:
        record = factory.get(arn)
        found: PipelinePlan = factory.service.scoped(
            "Plan", Caller(ACCOUNT, REGION, "root", ""), lambda call: plan_pipeline(call, record)
        )
        return found

    assert judge().builds and "EXPRESSION_MATCH_ONLY" in judge().reason
    factory.call("StartImagePipelineExecution", imagePipelineArn=arn)
    assert not judge().builds and "still running" in judge().reason


def test_pipeline_plan_names_the_pipelines_there_are(served: Factory) -> None:
    """An unknown name lists the known ones."""
    with pytest.raises(CommandFailed) as failure:
        run("pipeline", served, "plan", "nope")
    assert failure.value.hint == "known pipelines: pipe"


def test_a_schedule_that_never_fires_is_told_when_it_is_set_and_when_it_is_planned(served: Factory) -> None:
    """It is valid (spec/pipelines.md 2.5): the pipeline has no next run, and its log and its plan say why."""
    arn = served.pipeline("cron(0 0 30 2 ? *)", name="never")
    assert served.log(arn).endswith(
        " schedule | warning: cron(0 0 30 2 ? *): it never fires: no date fits its day, month and year together\n"
    )
    found = json.loads(run("pipeline", served, "plan", "never", "--json").stdout)
    assert found["next_run"] == "" and "it never fires" in found["hint"]
    assert "hint: cron(0 0 30 2 ? *): it never fires" in run("pipeline", served, "plan", "never").stdout
    assert plan(served)["hint"] == ""
    lines = len(served.log(arn).splitlines())
    served.update(arn, schedule=written("cron(0 0 28 2 ? *)"))
    assert served.next_run(arn) and len(served.log(arn).splitlines()) == lines
    served.update(arn, schedule=written("cron(0 0 28 2 ? 2020)"))
    assert "it never fires again: 2020 is its last year" in served.log(arn).splitlines()[-1]
