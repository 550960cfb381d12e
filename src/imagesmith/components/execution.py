"""The course of a run: documents, phases, steps, and what a failure stops (spec/components.md 8).

documents in the order given
    selected phases in document order
        steps in order; the journal tells which of them ended before a crash or a reboot
Abort      ends the document and all that follow
Continue   goes on; the document has failed in the end
Ignore     goes on; the failure is only counted
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from imagesmith.components.actions.base import ActionResult, NestedRequest
from imagesmith.components.declarations import ParameterError, variable_values
from imagesmith.components.machinery import Machinery
from imagesmith.components.model import ComponentDocument, Phase, Step
from imagesmith.components.reporting import StepPlace
from imagesmith.components.results import (
    DocumentResult,
    ExecutionResult,
    Failure,
    PhaseResult,
    StepResult,
    worst_status,
)
from imagesmith.components.scope import Facts, Scope, StepRecord
from imagesmith.components.secrets import Secrets
from imagesmith.components.services import Services
from imagesmith.components.steps import StepOutcome, StepRun
from imagesmith.values.diagnostics import Position

MAX_REBOOTS: Final = 15


@dataclass(frozen=True)
class DocumentRun:
    """One document to run. `label` is its path or ARN; `parameters` are the values given for it."""

    document: ComponentDocument
    label: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    secret_parameters: Collection[str] = frozenset()
    """Names of parameters whose values must never show."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is done. An empty `execution_id` is made from `ids`."""

    execution_id: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the component processes, such as IMAGE_PHASE, added to those of the instance."""
    working_directory: str | None = None
    services: Services = field(default_factory=Services)
    account: str = ""
    region: str = ""
    log_url: str = ""
    max_reboots: int = MAX_REBOOTS


@dataclass
class Execution:
    """Documents run together. A nested document is an execution of its own with the same machinery."""

    machinery: Machinery
    options: RunOptions
    ids: Callable[[], str]
    secrets: Secrets
    nested: Callable[[Execution, DocumentRun, NestedRequest, str], ActionResult]
    """Runs a document that a step of another one asks for."""
    chain: tuple[str, ...] = ()
    """Labels of the documents that run this one, outermost first."""
    failure: Failure | None = None
    resolved: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        documents: Sequence[DocumentRun],
        phases: Collection[str] | None,
        execution_id: str,
        *,
        after_document: Callable[[int], None] = lambda _: None,
    ) -> ExecutionResult:
        """Run documents; `after_document` hears the index of each that succeeded, before the next begins."""
        started = self.machinery.clock.now()
        results: list[DocumentResult] = []
        for index, item in enumerate(documents):
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
            ended=self.machinery.clock.now(),
            documents=tuple(results),
            failure=self.failure,
            chaining=self.secrets.mask_data(self.resolved),
            log_url=self.options.log_url,
        )

    def _document(
        self, index: int, item: DocumentRun, phases: Collection[str] | None, execution_id: str
    ) -> tuple[DocumentResult, bool]:
        """The result, and whether what follows must not run."""
        document = item.document
        started = self.machinery.clock.now()
        self.machinery.reporter.line(f"Document {item.label}")
        try:
            scope = self._scope(item, execution_id)
        except ParameterError as error:
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
            ended=self.machinery.clock.now(),
            phases=tuple(results),
        ), aborted

    def _refused(self, index: int, item: DocumentRun, message: str, started: datetime) -> DocumentResult:
        """A document that could not begin."""
        if self.failure is None:
            self.failure = Failure(index, item.label, item.document.name, "", "", "", message, "", Position(1, 1))
        return DocumentResult(
            name=item.document.name,
            label=item.label,
            description=item.document.description,
            status="failed",
            started=started,
            ended=self.machinery.clock.now(),
            phases=(),
            failure_message=f"Document {item.label} failed! {message}",
        )

    def _scope(self, item: DocumentRun, execution_id: str) -> Scope:
        """The values of a document. Raises ParameterError."""
        values = variable_values(item.document, item.parameters)
        for name in item.secret_parameters:
            self.secrets.add(values.get(name, ""))
        options = self.options
        facts = Facts(
            instance=self.machinery.instance,
            environment=options.environment,
            services=options.services,
            clock=self.machinery.clock,
            ids=self.ids,
            execution_id=execution_id,
            account=options.account,
            region=options.region,
            platform=item.document.platform,
        )
        return Scope(item.document, values, facts, self.secrets, resolved=self.resolved)

    def _phase(self, index: int, item: DocumentRun, phase: Phase, scope: Scope) -> tuple[PhaseResult, bool]:
        started = self.machinery.clock.now()
        self.machinery.reporter.line(f"Phase {phase.name}")
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
            ended=self.machinery.clock.now(),
            steps=tuple(results),
        ), aborted

    def _step(self, index: int, item: DocumentRun, phase: Phase, step: Step, scope: Scope) -> StepResult:
        machinery = self.machinery
        machinery.cancellation.check()
        place = StepPlace(index, item.label, phase.name, step.name, step.action)
        key = f"{index}/{phase.name}/{step.name}"
        stored = machinery.progress.step(key)
        if stored is not None:
            outcome = _restored(stored, step)
        else:
            machinery.reporter.line(f"Step {step.name}")
            machinery.reporter.step_started(place)
            outcome = self._run_step(item, phase, step, scope, place, key)
            machinery.progress.record("step", key, **_stored(outcome))
            machinery.reporter.step_finished(place, outcome.result)
        scope.records[(phase.name, step.name)] = outcome.record
        self._note_failure(index, item, phase, outcome.result)
        return outcome.result

    def _run_step(
        self, item: DocumentRun, phase: Phase, step: Step, scope: Scope, place: StepPlace, key: str
    ) -> StepOutcome:
        def run_nested(request: NestedRequest, at: str) -> ActionResult:
            return self.nested(self, item, request, at)

        quiet = item.document.disable_logging or phase.disable_logging or step.disable_logging
        self.machinery.reporter.line(f"{step.action}: STARTED EXECUTION")
        outcome = StepRun(
            machinery=self.machinery,
            scope=scope,
            phase=phase.name,
            step=step,
            place=place,
            key=key,
            logged=not quiet,
            run_nested=run_nested,
        ).run()
        self.machinery.reporter.line(f"{step.action}: FINISHED EXECUTION")
        return outcome

    def _note_failure(self, index: int, item: DocumentRun, phase: Phase, result: StepResult) -> None:
        if self.failure is not None or result.status not in ("failed", "timedOut"):
            return
        self.failure = Failure(
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


def _stored(outcome: StepOutcome) -> dict[str, Any]:
    """An outcome as the journal keeps it."""
    result = dataclasses.asdict(outcome.result)
    result["started"], result["ended"] = outcome.result.started.isoformat(), outcome.result.ended.isoformat()
    result.pop("position")
    record = outcome.record
    return {
        "result": result,
        "record": {"status": record.status, "inputs": record.inputs, "outputs": record.outputs},
    }


def _restored(entry: Mapping[str, Any], step: Step) -> StepOutcome:
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
