"""The course of a run: documents, phases, steps, and the effect of failures (spec/components.md 8).

documents in the order given
    selected phases in document order
        steps in order; the journal records which of them ended before a crash or a reboot
        Abort      ends the document and all that follow
        Continue   continues; the document fails at its end
        Ignore     continues; the failure is only counted
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from imagesmith.components.actions.base import ActionResult, NestedRequest
from imagesmith.components.declarations import ComponentParameterError, variable_values
from imagesmith.components.model import ComponentDocument, ComponentStep, Phase
from imagesmith.components.reporting import ReportedStep
from imagesmith.components.results import (
    DocumentResult,
    ExecutionResult,
    FailedStep,
    PhaseResult,
    StepResult,
    worst_status,
)
from imagesmith.components.scope import DocumentScope, ExecutionContext, StepRecord
from imagesmith.components.secrets import Secrets
from imagesmith.components.services import Services
from imagesmith.components.step_environment import StepEnvironment
from imagesmith.components.steps import ComponentStepRun, StepOutcome
from imagesmith.values.diagnostics import Position

MAX_REBOOTS: Final = 15


@dataclass(frozen=True)
class DocumentRun:
    """One document to run. `label` is its path or ARN; `parameters` are the values given for it."""

    document: ComponentDocument
    label: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    secret_parameters: Collection[str] = frozenset()
    """Names of parameters whose values must never be shown."""
    environment: Mapping[str, str] | None = None
    """Variables of its processes, and of the documents that it runs, instead of the options' variables."""


@dataclass(frozen=True)
class RunOptions:
    """The options of a run. An empty `execution_id` is replaced by one from `ids`."""

    execution_id: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the component processes, such as IMAGE_PHASE, in addition to the instance's."""
    working_directory: str | None = None
    services: Services = field(default_factory=Services)
    account: str = ""
    region: str = ""
    log_url: str = ""
    max_reboots: int = MAX_REBOOTS


@dataclass
class Execution:
    """Documents run together. A nested document is an execution of its own with the same step_environment."""

    step_environment: StepEnvironment
    options: RunOptions
    ids: Callable[[], str]
    secrets: Secrets
    nested: Callable[[Execution, DocumentRun, NestedRequest, str], ActionResult]
    """Runs a document for a step of another document."""
    chain: tuple[str, ...] = ()
    """Labels of the documents that run this one, outermost first."""
    failure: FailedStep | None = None
    resolved: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        documents: Sequence[DocumentRun],
        phases: Collection[str] | None,
        execution_id: str,
        *,
        after_document: Callable[[int], None] = lambda _: None,
    ) -> ExecutionResult:
        """Run documents; `after_document` gets the index of each that succeeded, before the next starts."""
        started = self.step_environment.clock.now()
        results: list[DocumentResult] = []
        shared = self.step_environment.environment
        for index, item in enumerate(documents):
            self.step_environment.environment = shared if item.environment is None else item.environment
            result, aborted = self._document(index, item, phases, execution_id)
            results.append(result)
            if aborted:
                break
            if result.status == "success":
                after_document(index)
        status = worst_status(result.status for result in results)
        return ExecutionResult(
            execution_id=execution_id,
            status="success" if status == "successWithIgnoredFailure" else status,
            started=started,
            ended=self.step_environment.clock.now(),
            documents=tuple(results),
            failure=self.failure,
            chaining=self.secrets.mask_data(self.resolved),
            log_url=self.options.log_url,
        )

    def _document(
        self, index: int, item: DocumentRun, phases: Collection[str] | None, execution_id: str
    ) -> tuple[DocumentResult, bool]:
        """The result, and whether the run must stop after it."""
        document = item.document
        started = self.step_environment.clock.now()
        self.step_environment.reporter.line(f"Document {item.label}")
        try:
            scope = self._scope(item, execution_id)
        except ComponentParameterError as error:
            return self._refused(index, item, str(error), started), True
        results: list[PhaseResult] = []
        aborted = False
        for phase in document.phases:
            if phases is not None and phase.name not in phases:
                continue
            result, aborted = self._phase(index, item, phase, scope)
            results.append(result)
            if aborted:
                break
        return DocumentResult(
            name=document.name,
            label=item.label,
            description=document.description,
            status=worst_status(result.status for result in results),
            started=started,
            ended=self.step_environment.clock.now(),
            phases=tuple(results),
        ), aborted

    def _refused(self, index: int, item: DocumentRun, message: str, started: datetime) -> DocumentResult:
        """A document that could not start."""
        if self.failure is None:
            self.failure = FailedStep(
                document_index=index,
                document_label=item.label,
                document_name=item.document.name,
                phase="",
                step="",
                action="",
                message=message,
                stderr="",
                position=Position(1, 1),
            )
        return DocumentResult(
            name=item.document.name,
            label=item.label,
            description=item.document.description,
            status="failed",
            started=started,
            ended=self.step_environment.clock.now(),
            phases=(),
            failure_message=f"Document {item.label} failed! {message}",
        )

    def _scope(self, item: DocumentRun, execution_id: str) -> DocumentScope:
        """The values of a document. Raises ParameterError."""
        values = variable_values(item.document, item.parameters)
        for name in item.secret_parameters:
            self.secrets.add(values.get(name, ""))
        options = self.options
        context = ExecutionContext(
            instance=self.step_environment.instance,
            environment=self.step_environment.environment,
            services=options.services,
            clock=self.step_environment.clock,
            ids=self.ids,
            execution_id=execution_id,
            account=options.account,
            region=options.region,
            platform=item.document.platform,
        )
        return DocumentScope(item.document, values, context, self.secrets, resolved=self.resolved)

    def _phase(self, index: int, item: DocumentRun, phase: Phase, scope: DocumentScope) -> tuple[PhaseResult, bool]:
        started = self.step_environment.clock.now()
        self.step_environment.reporter.line(f"Phase {phase.name}")
        results: list[StepResult] = []
        aborted = False
        for step in phase.steps:
            result = self._step(index, item, phase, step, scope)
            results.append(result)
            if result.status in ("failed", "timedOut") and step.on_failure == "Abort":
                aborted = True
                break
        return PhaseResult(
            name=phase.name,
            status=worst_status(result.status for result in results),
            started=started,
            ended=self.step_environment.clock.now(),
            steps=tuple(results),
        ), aborted

    def _step(
        self, index: int, item: DocumentRun, phase: Phase, step: ComponentStep, scope: DocumentScope
    ) -> StepResult:
        step_environment = self.step_environment
        step_environment.cancellation.check()
        reported = ReportedStep(
            document_index=index, label=item.label, phase=phase.name, name=step.name, action=step.action
        )
        key = f"{index}/{phase.name}/{step.name}"
        stored = step_environment.progress.step(key)
        if stored is not None:
            outcome = _restored(stored, step)
        else:
            step_environment.reporter.line(f"Step {step.name}")
            step_environment.reporter.step_started(reported)
            outcome = self._run_step(item, phase, step, scope, reported, key)
            step_environment.progress.record("step", key, **_stored(outcome))
            step_environment.reporter.step_finished(reported, outcome.result)
        scope.records[(phase.name, step.name)] = outcome.record
        self._note_failure(index, item, phase, outcome.result)
        return outcome.result

    def _run_step(
        self, item: DocumentRun, phase: Phase, step: ComponentStep, scope: DocumentScope, reported: ReportedStep,
        key: str,
    ) -> StepOutcome:  # fmt: skip
        def run_nested(request: NestedRequest, at: str) -> ActionResult:
            return self.nested(self, item, request, at)

        quiet = item.document.disable_logging or phase.disable_logging or step.disable_logging
        self.step_environment.reporter.line(f"{step.action}: STARTED EXECUTION")
        outcome = ComponentStepRun(
            step_environment=self.step_environment,
            scope=scope,
            phase=phase.name,
            step=step,
            reported=reported,
            key=key,
            logged=not quiet,
            run_nested=run_nested,
        ).run()
        self.step_environment.reporter.line(f"{step.action}: FINISHED EXECUTION")
        return outcome

    def _note_failure(self, index: int, item: DocumentRun, phase: Phase, result: StepResult) -> None:
        if self.failure is not None or result.status not in ("failed", "timedOut"):
            return
        self.failure = FailedStep(
            document_index=index,
            document_label=item.label,
            document_name=item.document.name,
            phase=phase.name,
            step=result.name,
            action=result.action,
            message=result.error_message,
            stderr=result.stderr,
            position=result.position,
            script_line=result.script_line,
        )


def _stored(outcome: StepOutcome) -> Mapping[str, Any]:
    """An outcome in the form of the journal."""
    result = dataclasses.asdict(outcome.result)
    result["started"], result["ended"] = outcome.result.started.isoformat(), outcome.result.ended.isoformat()
    result.pop("position")
    record = outcome.record
    return {
        "result": result,
        "record": {"status": record.status, "inputs": record.inputs, "outputs": record.outputs},
    }


def _restored(entry: Mapping[str, Any], step: ComponentStep) -> StepOutcome:
    stored, record = entry["result"], entry["record"]
    result = StepResult(
        **{
            **stored,
            "started": datetime.fromisoformat(stored["started"]),
            "ended": datetime.fromisoformat(stored["ended"]),
            "position": step.position,
            "inputs": tuple(stored["inputs"]),
            "outputs": tuple(stored["outputs"]),
            "detailed": tuple(stored["detailed"]),
        }
    )
    return StepOutcome(result, StepRecord(record["status"], record["inputs"], record["outputs"]))
