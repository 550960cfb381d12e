"""State in JSON columns: typed inside, and on disk what earlier versions wrote and read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.store import executions, queries, stored_builds
from imagesmith.store.build_outcome import BuildOutcome, BuildParent, BuildUpdate, Retry, UnpackedDisk
from imagesmith.store.database import Database
from imagesmith.store.execution_state import ExecutionState, PartStart, WorkflowResult
from imagesmith.store.internal_members import InternalMembers
from imagesmith.store.records import Build
from imagesmith.store.step_state import StepAnswer, StepState, WaitAction, WorkflowStepResult
from imagesmith.store.tables import builds, resources, step_executions, workflow_executions
from imagesmith.values.states import ExecutionStatus, ImageStatus, RollbackStatus, StepVerdict

IMAGE = "arn:aws:imagebuilder:eu-west-1:123456789012:image/web/1.0.0/1"
OUTCOME: dict[str, Any] = {
    "digest": "sha256:a", "size": 7, "parent_digest": "sha256:p", "stages": {"commit": 1.5},
    "attempts": {"keep": 2}, "parent": {"digest": "sha256:p", "image": "3f"},
    "origin": {"digest": "sha256:d", "entry": "cloud-init", "bytes": 5},
    "retry": {"number": 2, "phase": "TESTING", "tests": 2}, "ended_in": "TESTING",
}  # fmt: skip
"""As version f266e4c wrote it, which knew of no triggers of a parent."""

STEP: dict[str, Any] = {
    "name": "Ask", "action": "WaitForAction", "onFailure": "Abort", "timeoutSeconds": 60, "description": "d",
    "inputs": "{}", "outputs": '{"action": "STOP"}', "startTime": "then", "endTime": "now", "message": "stopped",
    "rollbackStatus": "SKIPPED", "_begun": 2, "_stopped": 1, "_deadline": 7, "_run": "key",
    "_answer": {"action": "STOP", "reason": "no"},
    "_result": {"status": "FAILED", "message": "stopped", "context": {"a": 1}, "containers": [{"region": "r"}],
                "outputs": {"action": "STOP"}},
}  # fmt: skip
EXECUTION: dict[str, Any] = {
    "workflowBuildVersionArn": "arn", "type": "TEST", "startTime": "then", "endTime": "now", "parallelGroup": "g",
    "message": "m", "_outputs": {}, "_deaths": 1, "_cancel": True, "_retried": True,
    "_given": {"outputs": {"a": "b"}, "digest": "sha256:a", "until": "2026-11-27T12:00:00.250Z"},
    "_result": {"status": "FAILED", "reason": "r", "context": {}, "outputs": {}, "containers": [], "digest": ""},
}  # fmt: skip
"""Rows of step and workflow executions, as version f266e4c wrote them."""

TEXTS = st.text("abc-:/", max_size=8)
COUNTS = st.integers(0, 9)


def test_the_outcome_of_a_build_of_an_earlier_version_is_read(database: Database) -> None:
    """Every member has its place, and writing one leaves the others as they were."""
    with database.write("s") as tx:
        row = {"image_arn": IMAGE, "plan": {}, "outcome": OUTCOME, "cancel_requested": False}
        tx.execute(sa.insert(builds), row)
    with database.read() as tx:
        build = stored_builds.get_build(tx, IMAGE)
    assert build is not None and build.outcome == BuildOutcome(
        digest="sha256:a", size=7, parent_digest="sha256:p", stages={"commit": 1.5}, attempts={"keep": 2},
        parent=BuildParent(digest="sha256:p", image="3f"),
        origin=UnpackedDisk(digest="sha256:d", entry="cloud-init", size=5),
        retry=Retry(2, ImageStatus.TESTING, 2), ended_in="TESTING",
    )  # fmt: skip
    with database.write("s") as tx:
        stored_builds.change_outcome(tx, IMAGE, lambda outcome: outcome.with_stages({"commit": 1, "export": 2}))
    with database.read() as tx:
        stored = tx.execute(sa.select(builds.c.outcome)).scalar_one()
    parent = {**OUTCOME["parent"], "triggers": []}
    assert stored == {**OUTCOME, "parent": parent, "stages": {"commit": 2.5, "export": 2}}


def test_a_new_build_stores_nothing_and_is_no_retry(database: Database) -> None:
    """Members that are empty are not stored: the list of retried images looks for those that are."""
    with database.write("s") as tx:
        stored_builds.put_build(tx, Build(IMAGE, {}))
    with database.read() as tx:
        assert tx.execute(sa.select(builds.c.outcome)).scalar_one() == {}
        assert stored_builds.get_build(tx, IMAGE) == Build(IMAGE, {}, BuildOutcome())


@given(
    st.builds(
        BuildOutcome, digest=TEXTS, size=COUNTS, parent_digest=TEXTS, ended_in=TEXTS,
        parent=st.builds(BuildParent, digest=TEXTS, image=TEXTS, triggers=st.lists(TEXTS, max_size=2).map(tuple)),
        origin=st.none() | st.builds(UnpackedDisk, digest=TEXTS, entry=TEXTS, size=COUNTS),
        stages=st.dictionaries(TEXTS, st.floats(0, 9), max_size=2),
        attempts=st.dictionaries(TEXTS, COUNTS, max_size=2),
        retry=st.builds(Retry, st.integers(1, 9), st.sampled_from(ImageStatus), COUNTS) | st.just(Retry()),
    )
)  # fmt: skip
def test_an_outcome_comes_back_as_it_was_stored(outcome: BuildOutcome) -> None:
    """Through JSON and back nothing is lost."""
    assert BuildOutcome.from_json(outcome.to_json()) == outcome
    assert BuildUpdate().added_to(outcome) == outcome


def test_a_run_and_its_steps_of_an_earlier_version_are_read(database: Database) -> None:
    """Every member has its place and is written as it was read; so is the row of a step that was cancelled."""
    owner = {"image_arn": IMAGE, "account": "123456789012", "region": "eu-west-1", "position": 0}
    cancelled = {"name": "a", "action": "RunCommand", "onFailure": "Abort", "timeoutSeconds": 1, "_result": {}}
    steps = [{"id": "s1", "document": STEP}, {"id": "s2", "document": cancelled}]
    with database.write("s") as tx:
        tx.execute(sa.insert(workflow_executions), {**owner, "id": "wf", "status": "FAILED", "document": EXECUTION})
        for step, status in zip(steps, ("FAILED", "CANCELLED"), strict=True):
            row = {**owner, **step, "execution_id": "wf", "status": status, "started": 5}
            tx.execute(sa.insert(step_executions), row)
    with database.read() as tx:
        execution = executions.get_execution(tx, "wf")
        asked, stopped = executions.steps_of(tx, "wf")
    assert execution is not None and execution.status == ExecutionStatus.FAILED
    assert execution.state == ExecutionState(
        workflow_arn="arn", type="TEST", start_time="then", end_time="now", parallel_group="g", message="m",
        start=PartStart({"a": "b"}, "sha256:a", datetime(2026, 11, 27, 12, 0, 0, 250000, UTC)), outputs={},
        deaths=1, cancel_requested=True, result=WorkflowResult.failed("r"), retried=True,
    )  # fmt: skip
    result = WorkflowStepResult(
        status=StepVerdict.FAILED, message="stopped", context={"a": 1}, containers=({"region": "r"},),
        outputs={"action": "STOP"},
    )  # fmt: skip
    assert asked.state == StepState(
        name="Ask", action="WaitForAction", on_failure="Abort", timeout_seconds=60, description="d", inputs="{}",
        outputs='{"action": "STOP"}', start_time="then", end_time="now", message="stopped",
        rollback_status=RollbackStatus.SKIPPED, begun=2, stopped=1, deadline=7, run="key", result=result,
        answer=StepAnswer(WaitAction.STOP, "no"),
    )  # fmt: skip
    assert stopped.state.result == WorkflowStepResult(status=StepVerdict.CANCELLED)
    with database.write("s") as tx:
        executions.update_execution(tx, execution)
        executions.update_step(tx, asked)
    with database.read() as tx:
        assert tx.execute(sa.select(workflow_executions.c.document)).scalar_one() == EXECUTION
        query = sa.select(step_executions.c.document).where(step_executions.c.id == "s1")
        assert tx.execute(query).scalar_one() == STEP


@pytest.mark.parametrize(
    ("stored", "result"),
    [
        ({"status": "LOST"}, WorkflowStepResult(status=StepVerdict.LOST)),
        ({"status": "SKIPPED"}, WorkflowStepResult(status=StepVerdict.SKIPPED)),
        ({"status": "COMPLETED", "outputs": {}}, WorkflowStepResult(status=StepVerdict.COMPLETED)),
        (
            {"status": "COMPLETED", "facts": {"digest": "sha256:a"}},
            WorkflowStepResult(status=StepVerdict.COMPLETED, values={"digest": "sha256:a"}),
        ),
        ({"status": "FAILED", "message": "m"}, WorkflowStepResult.failed("m")),
        (
            {"status": "FAILED", "message": "m", "outputs": {"errorMessage": "m"}},
            WorkflowStepResult.failed("m", {}),
        ),
    ],
)
def test_results_that_an_earlier_version_journalled_are_read(
    stored: dict[str, Any], result: WorkflowStepResult
) -> None:
    """A build that an upgrade interrupts is replayed from results in the form of the version before."""
    assert WorkflowStepResult.from_json(stored) == result
    assert WorkflowStepResult.from_json(result.to_json()) == result


@given(
    st.builds(
        StepState, name=TEXTS, action=TEXTS, on_failure=TEXTS, timeout_seconds=COUNTS, description=TEXTS,
        inputs=TEXTS, outputs=TEXTS, start_time=TEXTS, end_time=TEXTS, message=TEXTS, begun=COUNTS, stopped=COUNTS,
        rollback_status=st.none() | st.sampled_from(RollbackStatus), deadline=st.none() | COUNTS, run=TEXTS,
        answer=st.none() | st.builds(StepAnswer, st.sampled_from(WaitAction), st.none() | TEXTS),
        result=st.none() | st.builds(WorkflowStepResult, status=st.sampled_from(StepVerdict), message=TEXTS),
    )
)  # fmt: skip
def test_the_state_of_a_step_comes_back_as_it_was_stored(state: StepState) -> None:
    """Through JSON text and back nothing is lost, and no enumeration is in the way."""
    assert StepState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_what_no_answer_shows_of_a_pipeline_stands_beside_its_document(database: Database) -> None:
    """The members that earlier versions hid in the document are read from it and written into it."""
    hidden = {"_scheduleAnchor": "2026-11-23T12:00:00.000Z", "_scheduleVersion": 3, "_osVersion": "Debian 12"}
    columns = {
        "arn": IMAGE, "account": "123456789012", "region": "eu-west-1", "kind": "image-pipeline", "family": "",
        "slug": "web", "name": "web", "major": 0, "minor": 0, "patch": 0, "build": 0, "status": "ENABLED",
        "source": "", "created": 0, "tags": {}, "document": {"name": "web", **hidden},
    }  # fmt: skip
    with database.write("s") as tx:
        tx.execute(sa.insert(resources), columns)
        record = queries.get(tx, IMAGE)
        assert (
            record is not None
            and record.document == {"name": "web"}
            and record.to_api() == {"name": "web", "tags": {}}
        )
        assert record.internal == InternalMembers(
            schedule_anchor="2026-11-23T12:00:00.000Z", schedule_version=3, os_version="Debian 12"
        )
        queries.replace(tx, replace(record, document={"name": "web", "description": "d"}))
        queries.replace_documents(tx, [replace(record, document={"name": "web", "description": "d"})])
        assert queries.documents(tx, [IMAGE]) == {IMAGE: {"name": "web", "description": "d", **hidden}}
