"""States of an image and what they mean for its pipeline, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.store import queries
from imagesmith.store.database import Database
from imagesmith.store.records import Build, Record
from imagesmith.values.version import Version
from imagesmith.workflows.records import FINAL, Failure, Records, after_run
from support import MovingClock

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
        queries.put_build(tx, Build(image, {"scheduled": scheduled}, {}))


def get(database: Database, arn: str) -> Record:
    with database.read() as tx:
        record = queries.get(tx, arn)
    assert record is not None
    return record


def test_a_build_walks_through_its_states_and_its_pipeline_follows(database: Database, clock: MovingClock) -> None:
    """Each state shows at once in the image and in lastRunStatus."""
    store(database)
    records = Records(database, clock)
    for status in ("CREATING", "BUILDING", "TESTING", "DISTRIBUTING"):
        assert records.move(IMAGE, status)
        assert get(database, IMAGE).document["state"] == {"status": status}
        assert get(database, PIPELINE).document["lastRunStatus"] == status
    outputs = [{"region": "eu-west-1", "imageUris": ["r/web:1.0.0-1"]}]
    assert records.finish(IMAGE, "AVAILABLE", outputs=outputs)
    assert get(database, IMAGE).document["outputResources"] == {"containers": outputs}
    assert get(database, PIPELINE).document["lastRunStatus"] == "AVAILABLE"


@pytest.mark.parametrize("status", sorted(FINAL - {"DELETED"}))
def test_a_final_state_is_never_left_by_a_run(database: Database, clock: MovingClock, status: str) -> None:
    """A late step of a cancelled or finished build changes nothing."""
    store(database)
    with database.write("s") as tx:
        record = queries.get(tx, IMAGE)
        assert record is not None
        queries.replace(
            tx, replace(record, status=status, document={**record.document, "state": {"status": status}})
        )
    records = Records(database, clock)
    assert not records.move(IMAGE, "BUILDING")
    assert not records.finish(IMAGE, "FAILED", failure=Failure("late", {}))
    assert get(database, IMAGE).document["state"] == {"status": status}


def test_a_failure_carries_its_reason_and_context(database: Database, clock: MovingClock) -> None:
    """The reason is cut to a bound, the context is kept; a scan that never ran is abandoned."""
    store(database)
    records = Records(database, clock)
    records.finish(IMAGE, "FAILED", failure=Failure("x" * 5000, {"imageStatus": "BUILDING"}))
    state = get(database, IMAGE).document["state"]
    assert len(state["reason"]) <= 1024 and state["failureContext"] == {"imageStatus": "BUILDING"}


def test_the_sweep_finds_what_did_not_end(database: Database, clock: MovingClock) -> None:
    """Pending and running images, not final ones."""
    store(database)
    second = IMAGE.replace("/1.0.0/1", "/1.0.0/2")
    store(database, image=second)
    records = Records(database, clock)
    records.finish(IMAGE, "CANCELLED")
    assert records.pending() == [second]


def test_facts_of_a_run_are_merged(database: Database, clock: MovingClock) -> None:
    """Stage times, attempts and notes do not overwrite each other."""
    store(database)
    records = Records(database, clock)
    records.note(IMAGE, digest="sha256:a")
    records.note_stage(IMAGE, "build", 1.5)
    records.note_stage(IMAGE, "test", 0.25)
    assert [records.count_attempt(IMAGE, "build") for _ in range(2)] == [1, 2]
    outcome = records.outcome(IMAGE)
    assert outcome["digest"] == "sha256:a" and outcome["stages"] == {"build": 1.5, "test": 0.25}


SCHEDULED = {"scheduleExpression": "rate(1 day)"}


@pytest.mark.parametrize(
    ("status", "scheduled", "before", "after"),
    [
        ("AVAILABLE", True, 3, 0),
        ("AVAILABLE", False, 3, 0),
        ("FAILED", True, 3, 4),
        ("FAILED", False, 3, 3),
        ("CANCELLED", True, 3, 3),
        ("CANCELLED", False, 3, 3),
    ],
)
def test_failures_are_counted_as_specified(status: str, scheduled: bool, before: int, after: int) -> None:
    """Only scheduled failures count, every success resets, a cancel changes nothing."""
    document = {"status": "ENABLED", "consecutiveFailures": before, "schedule": SCHEDULED}
    assert after_run(document, status, scheduled=scheduled, stamp="now")["consecutiveFailures"] == after


@given(limit=st.one_of(st.none(), st.integers(1, 10)))
def test_a_pipeline_is_disabled_when_its_failures_reach_the_limit(limit: int | None) -> None:
    """Five without a policy; the next run date goes, the schedule stays."""
    policy = {} if limit is None else {"autoDisablePolicy": {"failureCount": limit}}
    document: dict[str, Any] = {
        "status": "ENABLED", "consecutiveFailures": 0, "schedule": {**SCHEDULED, **policy}, "dateNextRun": "soon",
        "dateUpdated": "then",
    }  # fmt: skip
    for count in range(1, (limit or 5) + 1):
        assert document["status"] == "ENABLED" and document["dateNextRun"] == "soon"
        document = after_run(document, "FAILED", scheduled=True, stamp="now")
        assert document["consecutiveFailures"] == count
    assert document["status"] == "DISABLED" and "dateNextRun" not in document and document["schedule"]
    assert document["dateUpdated"] == "now"
