"""Statements that a run makes about its image, kept beside it: for images in the layout, for disks as documents.

    a completed scan         vulnerabilities                    at its end
    before a distribution    test result, approvals             from the records of the run's workflows

The statements of a run replace those of an earlier attempt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagesmith.artifacts.referrers import Document, attach
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.inspection.evidence import (
    Approval,
    CheckedStep,
    Content,
    approvals,
    result_of_tests,
    vulnerabilities,
)
from imagesmith.inspection.provenance import IMAGE_ANNOTATION, beside_disk
from imagesmith.inspection.scanning.scanner import ScanReport
from imagesmith.inspection.signing import ENVELOPE_TYPE, SigningError, SigningKey
from imagesmith.inspection.statements import Predicate, statement_bytes, subject
from imagesmith.store import executions
from imagesmith.store.executions import StepExecution, WorkflowExecution
from imagesmith.store.step_state import WaitAction
from imagesmith.values.names import canonical_json, iso_instant
from imagesmith.values.states import ExecutionStatus, StepStatus

_Run = tuple[WorkflowExecution, Sequence[StepExecution]]
_SCAN = "CollectImageScanFindings"
_TESTING = ("ExecuteComponents", "RunCommand", "ExecuteStateMachine")
_UNTESTED = (ExecutionStatus.SKIPPED, ExecutionStatus.PENDING, ExecutionStatus.RUNNING)


def keep_statement(work: Work, digest: str, predicate: Predicate, content: Content) -> None:
    """Sign a statement about the image of the run and keep it beside the image. Raises StepFailed."""
    plan, context = work.plan, work.worker_context
    about = subject(plan.layout_reference, digest)
    try:
        payload = statement_bytes([about], predicate, canonical_json(content).encode())
        envelope = SigningKey.open(context.settings.data_dir).envelope(payload)
    except SigningError as error:
        raise StepFailed(f"the {predicate.words} cannot be signed: {error}") from error
    if plan.kind == "container":
        annotations = {IMAGE_ANNOTATION: plan.image_arn}
        attach(context.layout, digest, Document(predicate.kind, ENVELOPE_TYPE, envelope, annotations))
    else:
        context.disks.attach(digest, beside_disk(predicate, plan.image_arn), envelope)


def keep_scan(work: Work, digest: str, report: ScanReport, started: str) -> None:
    """Attest a completed scan that began at `started`, in ISO 8601. Raises StepFailed."""
    context = work.worker_context
    finished, scanner = iso_instant(context.clock()), context.settings.advisories.scanner
    content = vulnerabilities(scanner, report, image=work.plan.image_arn, started=started, finished=finished)
    keep_statement(work, digest, Predicate.VULNERABILITIES, content)


def keep_evidence(work: Work, digest: str) -> None:
    """Attest the tests and the approvals of the run, as far as there were any."""
    runs = _runs(work)
    tests = [run for run in runs if run[0].state.type == "TEST" and run[0].status not in _UNTESTED]
    finished = max((run.state.end_time for run, _ in tests), default="")
    tested = result_of_tests([run.state.workflow_arn for run, _ in tests], list(_tested_steps(tests)), finished)
    answered = approvals(list(_approvals(runs)))
    stated = []
    for predicate, content in ((Predicate.TEST_RESULT, tested), (Predicate.APPROVAL, answered)):
        if content is not None:
            keep_statement(work, digest, predicate, content)
            stated.append(predicate.words)
    if not stated:
        return
    work.log.line("evidence", f"signed: {', '.join(stated)}")
    exchange = work.worker_context.exchange
    if exchange is not None and work.plan.kind == "container":
        work.worker_context.check_fence()
        exchange.publish_image(
            work.worker_context.layout, digest, work.plan.layout_reference, cancellation=work.cancellation
        )


def _runs(work: Work) -> list[_Run]:
    arn = work.plan.image_arn
    with work.worker_context.records.database.read() as tx:
        found = executions.executions_of(tx, arn)
        return [(run, executions.steps_of(tx, run.id)) for run in found if not run.state.retried]


def _tested_steps(tests: Sequence[_Run]) -> Iterator[CheckedStep]:
    for run, steps in tests:
        for step in steps:
            # launching and ending an instance tests nothing, unless it fails; a scan has a statement of its own
            tried = step.state.action in _TESTING and step.status == StepStatus.COMPLETED
            if tried or (step.status == StepStatus.FAILED and step.state.action != _SCAN):
                name = f"{run.state.workflow_arn}#{step.state.name}"
                yield CheckedStep(name, step.status == StepStatus.COMPLETED)
        if run.status != ExecutionStatus.COMPLETED and all(step.status != StepStatus.FAILED for step in steps):
            # it ran out of time, or was not understood: what it did not come to was not tested
            yield CheckedStep(run.state.workflow_arn, passed=False)


def _approvals(runs: Sequence[_Run]) -> Iterator[Approval]:
    for run, steps in runs:
        for step in steps:
            answer = step.state.answer
            if answer is not None and answer.action == WaitAction.RESUME and step.status == StepStatus.COMPLETED:
                name = f"{run.state.workflow_arn}#{step.state.name}"
                yield Approval(name, answer.by, answer.reason or "", step.state.end_time)
