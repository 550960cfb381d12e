"""States of an image and what they mean for its pipeline, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from imagesmith.builds.image_states import enter_state
from imagesmith.builds.outcomes import BuildOutcomes
from imagesmith.builds.records import ImageFailure, ImageRecords
from imagesmith.events.messages import IMAGE_STATE_CHANGE
from imagesmith.store import queries, schedules, stored_builds
from imagesmith.store.build_outcome import BuildOutcome
from imagesmith.store.database import Database
from imagesmith.store.events import newest_events
from imagesmith.store.records import Build, Record
from imagesmith.values.states import FINAL_IMAGE, UNFINISHED_IMAGE, ImageStatus
from imagesmith.values.version import Version
from testing.clocks import MovingClock

BASE = "arn:aws:imagebuilder:eu-west-1:123456789012"
PIPELINE, IMAGE = f"{BASE}:image-pipeline/pipe", f"{BASE}:image/web/1.0.0/1"
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def store(database: Database, *, scheduled: bool = True, image: str = IMAGE, **pipeline: Any) -> None:
    document = {"arn": PIPELINE, "status": "ENABLED", "consecutiveFailures": 0, **pipeline}
    common: dict[str, Any] = {"account": "123456789012", "region": "eu-west-1", "created": NOW}
    with database.write("s") as tx:
        if queries.get(tx, PIPELINE) is None:
            queries.insert(
                tx,
                Record(arn=PIPELINE, kind="image-pipeline", slug="pipe", name="pipe", document=document, **common),
            )
        build = int(image.rsplit("/", 1)[1])
        queries.insert(
            tx,
            Record(
                arn=image, kind="image", slug="web", name="web", version=Version(1, 0, 0), build=build,
                status="PENDING", source=PIPELINE, document={"arn": image, "state": {"status": "PENDING"}},
                **common,
            ),
        )  # fmt: skip
        stored_builds.put_build(tx, Build(image, {"scheduled": scheduled}))


def get(database: Database, arn: str) -> Record:
    with database.read() as tx:
        record = queries.get(tx, arn)
    assert record is not None
    return record


def test_a_build_walks_through_its_states_and_its_pipeline_follows(database: Database, clock: MovingClock) -> None:
    """Each state shows at once in the image and in lastRunStatus."""
    store(database)
    records = ImageRecords(database, clock)
    for status in UNFINISHED_IMAGE[1:]:
        assert records.move(IMAGE, status)
        assert get(database, IMAGE).document["state"] == {"status": status}
        assert get(database, PIPELINE).document["lastRunStatus"] == status
    outputs = {"containers": [{"region": "eu-west-1", "imageUris": ["r/web:1.0.0-1"]}]}
    assert records.finish(IMAGE, ImageStatus.AVAILABLE, outputs=outputs)
    assert get(database, IMAGE).document["outputResources"] == outputs
    assert get(database, PIPELINE).document["lastRunStatus"] == "AVAILABLE"


@pytest.mark.parametrize("status", sorted(FINAL_IMAGE - {"DELETED"}))
def test_a_final_state_is_never_left_by_a_run(database: Database, clock: MovingClock, status: str) -> None:
    """A late step of a cancelled or finished build changes nothing."""
    store(database)
    with database.write("s") as tx:
        record = queries.get(tx, IMAGE)
        assert record is not None
        queries.replace(
            tx, replace(record, status=status, document={**record.document, "state": {"status": status}})
        )
    records = ImageRecords(database, clock)
    assert not records.move(IMAGE, ImageStatus.BUILDING)
    assert not records.finish(IMAGE, ImageStatus.FAILED, failure=ImageFailure("late", {}))
    assert get(database, IMAGE).document["state"] == {"status": status}


def told(database: Database) -> list[dict[str, Any]]:
    """The details of the events about the image, oldest first."""
    with database.read() as tx:
        found = newest_events(tx, "123456789012", "eu-west-1", 100)
    assert all(event.detail_type == IMAGE_STATE_CHANGE and event.resources == (IMAGE,) for event in found)
    return [dict(event.detail) for event in reversed(found)]


@pytest.mark.parametrize("reason", ["", "the disk is full"])
def test_each_transition_of_a_build_is_an_event(database: Database, clock: MovingClock, reason: str) -> None:
    """Once, although a move may be repeated; CREATING is told as PENDING; a failure has its reason."""
    store(database)
    records = ImageRecords(database, clock)
    walked = UNFINISHED_IMAGE[1:]
    for status in (*walked, walked[-1]):
        clock.now += timedelta(seconds=1)
        assert records.move(IMAGE, status)
    clock.now += timedelta(seconds=1)
    end = ImageStatus.FAILED if reason else ImageStatus.AVAILABLE
    for _ in range(2):
        records.finish(IMAGE, end, failure=ImageFailure(reason, {"imageStatus": "x"}) if reason else None)
    names = ["PENDING", "BUILDING", "TESTING", "DISTRIBUTING", "INTEGRATING", end]
    expected = [
        {"previous-state": {"status": before}, "state": {"status": after}} for before, after in pairwise(names)
    ]
    if reason:
        expected[-1]["state"]["reason"] = reason
    assert told(database) == expected


def test_a_transition_that_is_undone_has_no_event(database: Database, clock: MovingClock) -> None:
    """Image, pipeline and outbox change together or not at all."""
    store(database)
    with pytest.raises(PermissionError), database.write("s") as tx:
        enter_state(tx, get(database, IMAGE), {"status": "BUILDING"}, moment=clock())
        assert newest_events(tx, "123456789012", "eu-west-1", 1)
        raise PermissionError
    assert told(database) == [] and get(database, IMAGE).document["state"] == {"status": "PENDING"}


def test_a_failure_carries_its_reason_and_context(database: Database, clock: MovingClock) -> None:
    """The reason is cut to a bound, the context is kept; a scan that never ran is abandoned."""
    store(database)
    records = ImageRecords(database, clock)
    records.finish(IMAGE, ImageStatus.FAILED, failure=ImageFailure("x" * 5000, {"imageStatus": "BUILDING"}))
    state = get(database, IMAGE).document["state"]
    assert len(state["reason"]) <= 1024 and state["failureContext"] == {"imageStatus": "BUILDING"}


def test_the_sweep_finds_what_did_not_end(database: Database, clock: MovingClock) -> None:
    """Pending and running images, not final ones."""
    store(database)
    second = IMAGE.replace("/1.0.0/1", "/1.0.0/2")
    store(database, image=second)
    records = ImageRecords(database, clock)
    records.finish(IMAGE, ImageStatus.CANCELLED)
    assert records.pending() == [second]


def test_facts_of_a_run_are_merged(database: Database, clock: MovingClock) -> None:
    """Stage times, attempts and notes do not overwrite each other."""
    store(database)
    outcomes = BuildOutcomes(database)
    outcomes.keep_output(IMAGE, digest="sha256:a", size=7, parent_digest="")
    outcomes.note_stages(IMAGE, {"build": 1.5})
    outcomes.note_stages(IMAGE, {"test": 0.25})
    assert [outcomes.count_attempt(IMAGE, "build") for _ in range(2)] == [1, 2]
    assert outcomes.get(IMAGE) == BuildOutcome(
        digest="sha256:a", size=7, stages={"build": 1.5, "test": 0.25}, attempts={"build": 2}
    )


@pytest.mark.parametrize(
    ("status", "scheduled", "count"),
    [(ImageStatus.FAILED, True, 4), (ImageStatus.FAILED, False, 3), (ImageStatus.CANCELLED, True, 3)],
)
def test_a_run_is_counted_when_it_ends(
    database: Database, clock: MovingClock, status: ImageStatus, scheduled: bool, count: int
) -> None:
    """The plan says whether the schedule started the run; the pipeline's log hears of the count."""
    store(database, scheduled=scheduled, consecutiveFailures=3)
    told: list[tuple[str, str]] = []
    records = ImageRecords(database, clock, log_run=lambda pipeline, line: told.append((pipeline.arn, line)))
    records.finish(IMAGE, status, failure=ImageFailure("disk full", {}) if status == "FAILED" else None)
    assert get(database, PIPELINE).document["consecutiveFailures"] == count
    (line,) = told
    assert line[0] == PIPELINE and line[1].startswith(f"{IMAGE} is {status}")
    assert f"consecutive failures{' stay' if count == 3 else ':'} {count}" in line[1]


@pytest.mark.parametrize(("policy", "limit"), [({}, 5), ({"autoDisablePolicy": {"failureCount": 2}}, 2)])
def test_failures_in_a_row_disable_and_disarm_a_pipeline(
    database: Database, clock: MovingClock, policy: dict[str, Any], limit: int
) -> None:
    """At the limit the status turns DISABLED, the armed row goes, the schedule stays."""
    schedule = {"scheduleExpression": "rate(1 day)", **policy}
    images = [IMAGE.replace("/1.0.0/1", f"/1.0.0/{number}") for number in range(1, limit + 1)]
    for image in images:
        store(database, image=image, schedule=schedule, dateUpdated="then")
    armed = schedules.ArmedSchedule(PIPELINE, "123456789012", "eu-west-1", "rate(1 day)", "UTC", NOW, 1, NOW, NOW)
    with database.write("s") as tx:
        schedules.arm(tx, [armed])
    records = ImageRecords(database, clock)
    for image in images:
        with database.read() as tx:
            assert schedules.of_pipeline(tx, PIPELINE) == armed
        assert get(database, PIPELINE).document["status"] == "ENABLED"
        records.finish(image, ImageStatus.FAILED, failure=ImageFailure("no", {}))
    document = get(database, PIPELINE).document
    assert document["status"] == "DISABLED" and document["schedule"] == schedule
    assert document["dateUpdated"] != "then" and get(database, PIPELINE).status == "DISABLED"
    with database.read() as tx:
        assert schedules.of_pipeline(tx, PIPELINE) is None
