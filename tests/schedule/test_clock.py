"""The running clock: every rule of a tick on a real store, moved by a clock that tests set."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from imagesmith.builds.pipeline_counts import count_run
from imagesmith.events.messages import envelope
from imagesmith.schedule.rearm import RearmReport, rearm_all
from imagesmith.settings import Schedules
from imagesmith.store import queries
from imagesmith.store.events import newest_events
from imagesmith.values.states import ImageStatus
from testing.clock_support import NOON, OWN, Factory, MakeFactory, SetClock, schedule

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def test_a_due_pipeline_starts_one_scheduled_build(any_factory: Factory) -> None:
    """Not before its time; then once, with the image tags, its run state and its next run."""
    factory = any_factory
    arn = factory.pipeline(imageTags={"team": "a"})
    assert factory.tick_at(NOON + HOUR - SECOND) == []
    (image,) = factory.tick_at(NOON + HOUR + 3 * SECOND)
    assert factory.tick_at(NOON + HOUR + 4 * SECOND) == []
    record = factory.get(image)
    assert record.tags == {"team": "a"}
    assert record.document["buildType"] == "SCHEDULED" and record.document["sourcePipelineArn"] == arn
    document = factory.get(arn).document
    assert document["dateLastRun"] == "2026-11-23T13:00:03.000Z" and document["lastRunStatus"] == "PENDING"
    assert factory.next_run(arn) == "2026-11-23T14:00:00.000Z"
    assert factory.runs(arn) == [(NOON + HOUR, image)]
    assert "tick | build: scheduled for 2026-11-23T13:00:00Z; next run 2026-11-23T14:00:00.000Z" in factory.log(arn)
    assert f"run | started {image} (SCHEDULED)" in factory.log(arn)


def test_the_row_follows_every_change_of_the_pipeline(any_factory: Factory) -> None:
    """Create, update, disable, remove the schedule, delete: the clock's row says what Get shows."""
    factory = any_factory
    arn = factory.pipeline("cron(0 10 * * ? *)")
    assert factory.next_run(arn) == "2026-11-24T10:00:00.000Z"
    factory.update(arn, schedule=schedule("cron(30 10 * * ? *)", zone="Europe/Berlin"))
    assert factory.next_run(arn) == "2026-11-24T09:30:00.000Z"
    factory.update(arn, schedule=schedule("cron(30 10 * * ? *)"), status="DISABLED")
    assert factory.next_run(arn) is None and "schedule" in factory.get(arn).document
    factory.update(arn, schedule=schedule("cron(30 10 * * ? *)"))
    assert factory.next_run(arn) == "2026-11-24T10:30:00.000Z"
    factory.update(arn)
    assert factory.next_run(arn) is None
    factory.update(arn, schedule=schedule("cron(0 0 1 1 ? 2020)"))
    assert factory.next_run(arn) is None
    factory.update(arn, schedule=schedule("rate(2 hours)"))
    factory.tick_at(NOON + 2 * HOUR)
    factory.call("DeleteImagePipeline", imagePipelineArn=arn)
    assert factory.row(arn) is None and factory.runs(arn) == []


def test_a_schedule_that_ends_is_not_armed_again(factory: Factory) -> None:
    """After the last instant dateNextRun is absent."""
    arn = factory.pipeline("cron(0 13 23 11 ? 2026)")
    assert len(factory.tick_at(NOON + HOUR)) == 1
    assert factory.next_run(arn) is None
    assert factory.log(arn).count("no next run") == 1


def test_the_start_of_a_scheduled_run_survives_update_and_delete(factory: Factory) -> None:
    """An update arms anew from now; a deleted pipeline's build goes on and keeps the ARN."""
    arn = factory.pipeline()
    (image,) = factory.tick_at(NOON + HOUR)
    factory.update(arn, schedule=schedule("cron(0 * * * ? *)"))
    assert factory.tick_at(NOON + HOUR + SECOND) == []
    factory.call("DeleteImagePipeline", imagePipelineArn=arn)
    assert factory.tick_at(NOON + 2 * HOUR) == []
    assert factory.images(arn) == [image]


def test_one_catch_up_run_stands_for_every_missed_tick(factory: Factory) -> None:
    """After an outage the newest missed tick runs once when it is within the grace."""
    arn = factory.pipeline("cron(*/20 * * * ? *)")
    assert len(factory.tick_at(NOON + 5 * HOUR + timedelta(minutes=7))) == 1
    assert [instant for instant, _ in factory.runs(arn)] == [NOON + 5 * HOUR]
    assert "one run for every tick since 2026-11-23T12:20:00Z" in factory.log(arn)
    assert factory.next_run(arn) == "2026-11-23T17:20:00.000Z"


@pytest.mark.parametrize(("late", "started"), [(HOUR, 1), (HOUR + SECOND, 0)])
def test_a_tick_missed_by_more_than_the_grace_is_skipped(factory: Factory, late: timedelta, started: int) -> None:
    """An hour late runs, a second more does not; the log says so and the next tick is armed."""
    arn = factory.pipeline("cron(0 13 * * ? *)")
    assert len(factory.tick_at(NOON + HOUR + late)) == started
    assert ("missed the tick of 2026-11-23T13:00:00Z by 1 h 1 s" in factory.log(arn)) is not bool(started)
    assert factory.next_run(arn) == "2026-11-24T13:00:00.000Z"
    assert "dateLastRun" in factory.get(arn).document or not started


def test_the_grace_is_a_setting(make_factory: MakeFactory) -> None:
    """`schedules.misfire_grace_seconds` is what the clock obeys."""
    factory = make_factory(Schedules(misfire_grace_seconds=10))
    factory.recipe()
    factory.infrastructure()
    factory.pipeline()
    assert factory.tick_at(NOON + HOUR + 11 * SECOND) == []


@pytest.mark.parametrize(("overlap", "second"), [("allow", 1), ("skip", 0)])
def test_overlap_is_a_policy(make_factory: MakeFactory, overlap: str, second: int) -> None:
    """A tick does not wait for a running build unless told to skip; after its end the next one runs."""
    factory = make_factory(Schedules(overlap="skip" if overlap == "skip" else "allow"))
    factory.recipe()
    factory.infrastructure()
    arn = factory.pipeline()
    (image,) = factory.tick_at(NOON + HOUR)
    assert len(factory.tick_at(NOON + 2 * HOUR)) == second
    assert ("still running (overlap = skip)" in factory.log(arn)) is (overlap == "skip")
    factory.finish(image)
    assert len(factory.tick_at(NOON + 3 * HOUR)) == 1


def test_a_clock_that_goes_back_runs_nothing_twice(any_factory: Factory) -> None:
    """Ten minutes and two days back: the instants that were run stay run, those in between are not lost."""
    factory = any_factory
    arn = factory.pipeline()
    assert len(factory.tick_at(NOON + HOUR)) == 1
    assert factory.tick_at(NOON + HOUR - timedelta(minutes=10)) == []
    assert factory.tick_at(NOON + HOUR + SECOND) == []
    assert "that run was started before" in factory.log(arn)
    assert len(factory.tick_at(NOON + 2 * HOUR)) == 1
    assert factory.tick_at(NOON - 48 * HOUR) == []
    assert factory.next_run(arn) == "2026-11-21T13:00:00.000Z"
    assert len(factory.tick_at(NOON - 47 * HOUR)) == 1
    instants = [instant for instant, _ in factory.runs(arn)]
    assert instants == [NOON - 47 * HOUR, NOON + HOUR, NOON + 2 * HOUR]


def test_a_clock_that_was_years_ahead_leaves_nothing_stuck(factory: Factory) -> None:
    """Corrected from 2030, the pipeline runs at its next instant of today."""
    arn = factory.pipeline()
    assert len(factory.tick_at(NOON.replace(year=2030))) == 1
    assert factory.next_run(arn) == "2030-11-23T13:00:00.000Z"
    assert factory.tick_at(NOON + SECOND) == []
    assert factory.next_run(arn) == "2026-11-23T13:00:00.000Z"
    assert len(factory.tick_at(NOON + HOUR)) == 1


def test_a_clock_that_was_ahead_of_a_restart_leaves_nothing_stuck(make_factory: MakeFactory, now: SetClock) -> None:
    """The recomputation of a start counts from now when a row was computed in the future."""
    factory = make_factory()
    factory.recipe()
    factory.infrastructure()
    arn = factory.pipeline()
    factory.tick_at(NOON.replace(year=2030))
    now.now = NOON
    again = make_factory()
    again.scheduler.recompute()
    assert again.next_run(arn) == "2026-11-23T13:00:00.000Z"


def test_a_jump_forward_is_an_outage(factory: Factory) -> None:
    """One run for the newest instant that was jumped over."""
    arn = factory.pipeline("cron(*/10 * * * ? *)")
    factory.scheduler.tick()
    assert len(factory.tick_at(NOON + timedelta(days=30, minutes=5))) == 1
    assert [instant for instant, _ in factory.runs(arn)] == [NOON + timedelta(days=30)]


def test_new_zone_rules_move_the_next_run_at_start_up(any_factory: Factory) -> None:
    """A row that older rules left an hour late or early is recomputed."""
    factory = any_factory
    arn = factory.pipeline("cron(0 9 * * ? *)", zone="Europe/Berlin")
    other = factory.pipeline("cron(0 9 * * ? *)", name="other")
    right = factory.next_run(arn)
    row = factory.row(arn)
    assert row is not None and right == "2026-11-24T08:00:00.000Z"
    for wrong in (HOUR, -HOUR):
        factory.edit_row(arn, next_fire=row.next_fire + wrong)
        factory.scheduler.recompute()
        assert factory.next_run(arn) == right
    assert factory.next_run(other) == "2026-11-24T09:00:00.000Z"


def test_new_zone_rules_do_not_lose_an_instant_that_is_past_by_them(factory: Factory) -> None:
    """Armed for 09:00 UTC by old rules; by the new ones it was 08:00, half an hour ago: it runs once, now."""
    arn = factory.pipeline("cron(0 9 * * ? *)", zone="Europe/Berlin")
    row = factory.row(arn)
    assert row is not None
    factory.edit_row(arn, next_fire=row.next_fire + HOUR)
    assert factory.tick_at(row.next_fire + HOUR / 2) == []
    factory.scheduler.recompute()
    assert len(factory.tick_at(row.next_fire + HOUR / 2)) == 1
    assert factory.tick_at(row.next_fire + HOUR) == []
    assert [instant for instant, _ in factory.runs(arn)] == [row.next_fire]


def test_a_recomputation_forgets_runs_of_long_ago(factory: Factory) -> None:
    """What was run is remembered for ninety days."""
    arn = factory.pipeline("cron(0 0 1 * ? *)")
    for month in (1, 2, 3, 4, 5):
        factory.tick_at(NOON.replace(year=2027, month=month, day=1, hour=0))
    factory.scheduler.recompute()
    assert [instant.month for instant, _ in factory.runs(arn)] == [2, 3, 4, 5]


def test_an_unresolvable_run_counts_as_failed_without_an_image(any_factory: Factory) -> None:
    """A disabled component: no image, the reason in the log, one more failure, the next tick armed."""
    factory = any_factory
    component = factory.component()
    factory.recipe("app", components=[{"componentArn": f"{OWN}:component/hello/1.0.0/1"}])
    arn = factory.pipeline(containerRecipeArn=f"{OWN}:container-recipe/app/x.x.x", failures=2)
    factory.edit(component, status="DISABLED")
    assert factory.tick_at(NOON + HOUR) == []
    document = factory.get(arn).document
    assert document["consecutiveFailures"] == 1 and document["status"] == "ENABLED"
    assert "dateLastRun" not in document and factory.images(arn) == []
    assert factory.next_run(arn) == "2026-11-23T14:00:00.000Z"
    assert f"no image could be started: The component {component} is DISABLED" in factory.log(arn)
    assert "consecutive failures: 1" in factory.log(arn)
    assert factory.runs(arn) == [(NOON + HOUR, "")]
    factory.tick_at(NOON + 2 * HOUR)
    document = factory.get(arn).document
    assert document["status"] == "DISABLED" and document["dateUpdated"] == "2026-11-23T14:00:00.000Z"
    assert factory.next_run(arn) is None
    assert "consecutive failures: 2: the pipeline is disabled (limit 2)" in factory.log(arn)
    assert [event.resources for event in factory.events()] == [(arn,)]
    assert factory.tick_at(NOON + 3 * HOUR) == []


def test_failed_builds_disable_and_an_update_enables(factory: Factory) -> None:
    """At the limit the schedule stops; an update arms it again with a count of 0; manual runs never count."""
    arn = factory.pipeline(failures=2)
    (first,) = factory.tick_at(NOON + HOUR)
    manual = factory.call("StartImagePipelineExecution", imagePipelineArn=arn)["imageBuildVersionArn"]
    factory.finish(first, "FAILED")
    factory.finish(manual, "FAILED")
    assert factory.get(arn).document["consecutiveFailures"] == 1
    (second,) = factory.tick_at(NOON + 2 * HOUR)
    factory.finish(second, "FAILED")
    assert factory.get(arn).document["status"] == "DISABLED" and factory.next_run(arn) is None
    assert f"{second} is FAILED (disk full); consecutive failures: 2: the pipeline is disabled" in factory.log(arn)
    assert factory.tick_at(NOON + 3 * HOUR) == []
    factory.update(arn, schedule=schedule("cron(0 * * * ? *)"))
    assert factory.get(arn).document["consecutiveFailures"] == 0
    assert len(factory.tick_at(NOON + 4 * HOUR)) == 1


def test_automatic_disabling_sends_its_event(any_factory: Factory) -> None:
    """One event, in the transaction that disables, in the shape of the event bus; old ones are forgotten."""
    factory = any_factory
    arn = factory.pipeline(failures=1)
    (image,) = factory.tick_at(NOON + HOUR)
    assert factory.events() == []
    factory.finish(image, "FAILED")
    (event,) = factory.events()
    told = dict(envelope(event))
    assert str(UUID(told.pop("id"))) == event.id
    assert told == {
        "version": "0",
        "detail-type": "EC2 Image Builder Image Pipeline Automatically Disabled",
        "source": "aws.imagebuilder",
        "account": "123456789012",
        "region": "eu-west-1",
        "time": "2026-11-23T13:00:00Z",
        "resources": [arn],
        "detail": {"consecutive-failures": "1"},
    }
    factory.tick_at(NOON + timedelta(days=91))
    factory.scheduler.recompute()
    assert factory.events() == []


def test_an_event_of_a_change_that_is_undone_is_not_sent(factory: Factory) -> None:
    """The outbox is part of the transaction: when that fails, neither the pipeline nor the outbox changes."""
    arn = factory.pipeline(failures=1)
    with pytest.raises(RuntimeError, match="no"), factory.database.write("edit") as tx:
        effect = count_run(
            tx, factory.get(arn), ImageStatus.FAILED, trigger="schedule", stamp="2026-11-23T12:00:00.000Z"
        )
        assert effect.disable and len(newest_events(tx, "123456789012", "eu-west-1", 10)) == 1
        raise RuntimeError("no")
    assert factory.events() == [] and factory.get(arn).document["status"] == "ENABLED"


def test_a_manual_run_leaves_the_schedule_alone(factory: Factory) -> None:
    """Its tags are its own, its start is in the log, and it is no scheduled instant."""
    arn = factory.pipeline(imageTags={"team": "a"}, status="DISABLED")
    image = factory.call("StartImagePipelineExecution", imagePipelineArn=arn, tags={"why": "now"})[
        "imageBuildVersionArn"
    ]
    assert factory.get(image).tags == {"why": "now"}
    assert factory.runs(arn) == [] and f"started {image} (USER_INITIATED)" in factory.log(arn)


def test_a_row_of_another_schedule_version_is_dropped_and_set_right(factory: Factory) -> None:
    """A row that does not belong to the document fires nothing and is armed as the document says."""
    arn = factory.pipeline("cron(0 18 * * ? *)")
    factory.edit_row(arn, next_fire=NOON + HOUR, version=99)
    assert factory.tick_at(NOON + HOUR) == []
    assert factory.next_run(arn) == "2026-11-23T18:00:00.000Z"
    assert len(factory.tick_at(NOON + 6 * HOUR)) == 1


def test_a_row_of_another_schedule_version_loses_no_instant(factory: Factory) -> None:
    """What the document's own schedule had due meanwhile is caught up, once."""
    arn = factory.pipeline("cron(0 * * * ? *)")
    factory.edit_row(arn, next_fire=NOON + 1.5 * HOUR, version=0)
    (image,) = factory.tick_at(NOON + 1.5 * HOUR)
    assert factory.runs(arn) == [(NOON + HOUR, image)]
    factory.edit_row(arn, next_fire=NOON + 1.6 * HOUR, version=0)
    assert factory.tick_at(NOON + 1.6 * HOUR) == []
    assert factory.next_run(arn) == "2026-11-23T14:00:00.000Z"


def test_a_row_without_its_pipeline_is_removed(factory: Factory) -> None:
    """A pipeline that is gone or DISABLED fires nothing, whatever its row says."""
    gone, disabled = factory.pipeline(), factory.pipeline(name="disabled")
    with factory.database.write("edit") as tx:
        queries.delete(tx, gone)
    factory.edit(disabled, status="DISABLED")
    assert factory.tick_at(NOON + HOUR) == []
    assert factory.row(gone) is None


def test_an_engine_that_refuses_gets_the_build_at_a_later_tick(factory: Factory) -> None:
    """The image is PENDING meanwhile; the tick is not repeated and other effects are not lost."""
    first, second = factory.pipeline(), factory.pipeline(name="second")
    factory.builds.broken = True
    assert factory.tick_at(NOON + HOUR) == []
    images = [*factory.images(first), *factory.images(second)]
    assert len(images) == 2 and factory.records.pending() == images
    factory.builds.broken = False
    assert sorted(factory.tick_at(NOON + HOUR + SECOND)) == sorted(images)
    assert factory.tick_at(NOON + HOUR + 2 * SECOND) == []


def test_a_pipeline_that_cannot_be_handled_stops_no_other(
    factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    """The bad one is left alone for five minutes, told once in the server's log, and not forgotten."""
    bad, good = factory.pipeline(name="a-bad"), factory.pipeline(name="good")
    document = dict(factory.get(bad).document)
    factory.edit(bad, schedule={"scheduleExpression": "cron(0 * * * ? *)"})
    assert len(factory.tick_at(NOON + HOUR)) == 1
    assert factory.images(bad) == [] and len(factory.images(good)) == 1
    assert caplog.text.count(f"the tick of {bad} failed") == 1
    factory.edit(bad, schedule=document["schedule"])
    assert factory.tick_at(NOON + HOUR + 299 * SECOND) == []
    assert len(factory.tick_at(NOON + HOUR + 301 * SECOND)) == 1
    assert [instant for instant, _ in factory.runs(bad)] == [NOON + HOUR]


def test_a_zone_that_the_database_lost_fails_the_run_and_is_looked_at_again(factory: Factory) -> None:
    """The zone is named in the log; after a day it is tried again, and a start with the zone sets it right."""
    arn = factory.pipeline("cron(0 * * * ? *)", zone="Europe/Berlin")
    known = factory.get(arn).document["schedule"]
    factory.edit(arn, schedule={**known, "timezone": "Mars/Base"})
    factory.edit_row(arn, timezone="Mars/Base")
    factory.scheduler.recompute()
    assert factory.tick_at(NOON + HOUR) == []
    assert "'Mars/Base' is not a time zone of the IANA database" in factory.log(arn)
    assert factory.get(arn).document["consecutiveFailures"] == 1
    assert factory.next_run(arn) == "2026-11-24T13:00:00.000Z"
    factory.edit(arn, schedule=known)
    factory.edit_row(arn, timezone="Europe/Berlin")
    factory.scheduler.recompute()
    assert factory.next_run(arn) == "2026-11-23T14:00:00.000Z"


def test_lenient_expressions_fire_after_the_switch_was_turned_off(make_factory: MakeFactory) -> None:
    """What was accepted once keeps its meaning."""
    lenient = make_factory(Schedules(lenient_cron=True))
    lenient.recipe()
    lenient.infrastructure()
    arn = lenient.pipeline("cron(0 * * * *)")
    strict = make_factory()
    strict.scheduler.recompute()
    assert len(strict.tick_at(NOON + HOUR)) == 1
    assert strict.next_run(arn) == "2026-11-23T14:00:00.000Z"


def test_ticks_of_several_scopes_are_carried_out_in_theirs(factory: Factory) -> None:
    """Pipelines of two regions are due in one batch; each image belongs to its pipeline's region."""
    home = factory.pipeline()
    away = home.replace("eu-west-1", "us-east-1")
    members = {
        "name": "infra", "instanceProfileName": "profile",
    }  # fmt: skip
    factory.call("CreateInfrastructureConfiguration", region="us-east-1", **members)
    recipe = dict(factory.get(f"{OWN}:container-recipe/web/1.0.0").document)
    wanted = (
        "containerType", "name", "parentImage", "components", "dockerfileTemplateData", "targetRepository"
    )  # fmt: skip
    request = {name: recipe[name] for name in wanted}
    request["parentImage"] = request["parentImage"].replace("eu-west-1", "us-east-1")
    request["components"] = [
        {"componentArn": entry["componentArn"].replace("eu-west-1", "us-east-1")} for entry in request["components"]
    ]
    factory.call("CreateContainerRecipe", region="us-east-1", semanticVersion="1.0.0", **request)
    theirs = OWN.replace("eu-west-1", "us-east-1")
    factory.call(
        "CreateImagePipeline", region="us-east-1", name="pipe",
        containerRecipeArn=f"{theirs}:container-recipe/web/1.0.0",
        infrastructureConfigurationArn=f"{theirs}:infrastructure-configuration/infra",
        schedule=schedule("cron(0 * * * ? *)"),
    )  # fmt: skip
    images = factory.tick_at(NOON + HOUR)
    assert sorted(image.split(":")[3] for image in images) == ["eu-west-1", "us-east-1"]
    assert {factory.get(image).source for image in images} == {home, away}


def test_the_thread_fires_wakes_and_stops(factory: Factory, now: SetClock) -> None:
    """What is due at the start is fired, a wake-up brings what became due, and close() ends the thread."""
    started = threading.Semaphore(0)
    factory.builds.on_start = started.release
    factory.pipeline()
    now.now = NOON + HOUR
    factory.scheduler.start()
    assert started.acquire(timeout=30)
    now.now = NOON + 2 * HOUR
    factory.pipeline("cron(0 14 * * ? *)", name="woken")
    factory.scheduler.wake(NOON)
    assert started.acquire(timeout=30)
    factory.scheduler.close()
    assert "scheduler" not in [thread.name for thread in threading.enumerate()]
    now.now = NOON + 3 * HOUR
    assert factory.scheduler.tick() == []


def test_re_arming_changes_no_document(any_factory: Factory) -> None:
    """What is shown moves with the row alone, in Get and in List; a tag of the member's name stays a tag."""
    factory = any_factory
    tags = {"dateNextRun": "2026-11-23T13:00:00.000Z", "ü": "\\"}
    plain, tagged = factory.pipeline(), factory.pipeline(name="tagged", imageTags=tags)
    off = factory.pipeline(name="off", status="DISABLED")
    before = {arn: factory.get(arn) for arn in (plain, tagged, off)}
    for arn in (plain, tagged):
        factory.edit_row(arn, next_fire=NOON + 5 * HOUR)
    factory.scheduler.recompute()
    assert {arn: factory.get(arn) for arn in before} == before
    assert factory.next_run(plain) == factory.next_run(tagged) == "2026-11-23T13:00:00.000Z"
    listed = factory.call("ListImagePipelines", maxResults=25)["imagePipelineList"]
    assert {item["arn"]: item.get("dateNextRun") for item in listed} == {
        plain: "2026-11-23T13:00:00.000Z", tagged: "2026-11-23T13:00:00.000Z", off: None
    }  # fmt: skip
    assert factory.get(tagged).document["imageTags"] == tags


def test_re_arming_ends_a_schedule_that_new_rules_leave_without_an_instant(any_factory: Factory) -> None:
    """The row goes and dateNextRun with it; others of the same batch are moved."""
    factory = any_factory
    arn, other = factory.pipeline("cron(0 9 24 11 ? 2026)"), factory.pipeline(name="other")
    factory.edit_row(arn, expression="cron(0 9 24 11 ? 2020)")
    factory.edit_row(other, next_fire=NOON + 5 * HOUR)
    assert rearm_all(factory.database, now=factory.clock) == RearmReport(seen=2, changed=2)
    assert factory.next_run(arn) is None and "schedule" in factory.get(arn).document
    assert factory.next_run(other) == "2026-11-23T13:00:00.000Z"


@pytest.mark.parametrize("expression", ["cron(0 9 * * ? *)", "cron(0 9 * * ? 2020)"])
def test_a_pipeline_that_changed_meanwhile_is_left_to_its_change(any_factory: Factory, expression: str) -> None:
    """A row that another server armed after it was read for the recomputation stays as that server left it."""
    factory = any_factory
    arn = factory.pipeline("cron(0 9 * * ? *)")
    factory.edit_row(arn, next_fire=NOON, expression=expression)
    first = True

    def now() -> datetime:
        nonlocal first
        if first:
            first = False
            factory.update(arn, schedule=schedule("cron(0 18 * * ? *)"))
        return factory.clock()

    assert rearm_all(factory.database, now=now).changed == 0
    assert factory.next_run(arn) == "2026-11-23T18:00:00.000Z"
