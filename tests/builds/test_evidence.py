"""What a run attests of its tests, from the records of its workflows; without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagesmith.builds.evidence import keep_evidence
from imagesmith.builds.steps.context import StepRun
from imagesmith.inspection.provenance import beside_disk
from imagesmith.inspection.signing import SigningKey
from imagesmith.inspection.statements import Predicate, open_statement
from imagesmith.store import executions
from imagesmith.store.execution_state import ExecutionState
from imagesmith.store.executions import StepExecution, WorkflowExecution
from imagesmith.store.step_state import StepState
from imagesmith.values.states import ExecutionStatus, StepStatus
from testing.disks import raw_disk
from testing.plans import ACCOUNT, ARN, REGION

pytestmark = pytest.mark.tool

ENDED = "2026-11-29T12:00:0{}.000Z"
Steps = list[tuple[str, str]]


def put_workflow(run: StepRun, number: int, status: str, steps: Steps) -> None:
    """Records of a TEST workflow `wf-NUMBER`, with steps by action and status."""
    place: dict[str, Any] = {"image_arn": ARN, "account": ACCOUNT, "region": REGION}
    state = ExecutionState(workflow_arn=f"arn:{number}", type="TEST", end_time=ENDED.format(number))
    execution = WorkflowExecution(
        id=f"wf-{number}", position=number, status=ExecutionStatus(status), state=state, **place
    )
    records = [
        StepExecution(
            id=f"step-{number}-{position}", execution_id=execution.id, position=position, started=1,
            status=StepStatus(ended), **place,
            state=StepState(name=f"S{position}", action=action, on_failure="Abort", timeout_seconds=60),
        )
        for position, (action, ended) in enumerate(steps)
    ]  # fmt: skip
    with run.worker_context.records.database.write(f"{ACCOUNT}/{REGION}") as tx:
        executions.put_execution(tx, execution, records)


TRIED, CUT = ("RunCommand", "COMPLETED"), ("RunCommand", "CANCELLED")


@pytest.mark.parametrize(
    ("second", "steps", "failed"),
    [
        ("COMPLETED", [TRIED], []),
        ("COMPLETED", [("RunCommand", "FAILED")], ["arn:2#S0"]),
        ("FAILED", [TRIED, ("ExecuteComponents", "FAILED")], ["arn:2#S1"]),
        ("FAILED", [("LaunchInstance", "FAILED")], ["arn:2#S0"]),
        ("FAILED", [TRIED, CUT], ["arn:2"]),
        ("FAILED", [], ["arn:2"]),
        ("CANCELLED", [TRIED, CUT], ["arn:2"]),
        ("ROLLBACK_COMPLETED", [("RunCommand", "FAILED")], ["arn:2#S0"]),
        ("ROLLBACK_COMPLETED", [CUT], ["arn:2"]),
        ("FAILED", [TRIED, ("CollectImageScanFindings", "FAILED")], []),
        ("SKIPPED", [CUT], []),
    ],
)
def test_a_workflow_that_did_not_end_well_is_no_passed_test(
    run: StepRun, tmp_path: Path, second: str, steps: Steps, failed: list[str]
) -> None:
    """Whether one of its steps failed, none was reached, or its time was over; the scan has its own statement."""
    raw_disk(tmp_path / "disk.raw")
    digest = run.worker_context.disks.take(tmp_path / "disk.raw").digest
    put_workflow(run, 1, "COMPLETED", [TRIED])
    put_workflow(run, 2, second, steps)
    keep_evidence(run, digest)
    envelope = run.worker_context.disks.documents(digest)[beside_disk(Predicate.TEST_RESULT, ARN)].read_bytes()
    key = SigningKey.open(run.worker_context.settings.data_dir).public
    said = open_statement(envelope, digest, [key], Predicate.TEST_RESULT).predicate
    assert (said["result"], said["failedTests"]) == ("FAILED" if failed else "PASSED", failed)
    assert said["imagesmith_finishedOn"] == ENDED.format(1 if second == "SKIPPED" else 2)
