"""run_documents(): the only entry point to run component documents on an instance (spec/components.md 8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from imagesmith.components.execution import DocumentRun, Execution, RunOptions
from imagesmith.components.journal import VERSION, NoJournal, Progress, StepJournal
from imagesmith.components.nesting import run_nested_document
from imagesmith.components.reporting import NullReporter, Reporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.secrets import Secrets
from imagesmith.components.services import Clock
from imagesmith.components.step_environment import Restarts, StepEnvironment
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Cancellation
from imagesmith.values.names import canonical_json, sha256_hex

__all__ = ["DocumentRun", "RunOptions", "fingerprint", "run_documents", "unfinished_execution"]


def run_documents(
    documents: Sequence[DocumentRun],
    instance: Instance,
    *,
    clock: Clock,
    ids: Callable[[], str],
    phases: Collection[str] | None = None,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    cancellation: Cancellation | None = None,
    journal: StepJournal | None = None,
    after_document: Callable[[int], None] = lambda _: None,
) -> ExecutionResult:
    """Run the given phases (None: all) of documents and return the result; a failing step raises nothing.

    `ids` returns a new unique text at each call. With a `journal` that holds an unfinished run of the same
    documents, that run continues. `after_document` gets the index of each document that succeeded, before the next
    starts. Raises Cancelled when `cancellation` is requested.
    """
    chosen = options or RunOptions()
    book = journal or NoJournal()
    execution_id, progress = _opened(book, documents, phases, chosen.execution_id, ids)
    reporting = reporter or NullReporter()
    surroundings = StepEnvironment(
        instance=instance, services=chosen.services, environment=chosen.environment,
        working_directory=chosen.working_directory, reporter=reporting, clock=clock,
        cancellation=cancellation or Cancellation(), progress=progress,
        restarts=Restarts(chosen.max_reboots, progress.reboots),
    )  # fmt: skip
    execution = Execution(
        step_environment=surroundings, options=chosen, ids=ids, secrets=Secrets(), nested=run_nested_document
    )
    _report_start(reporting, documents)
    result = execution.run(documents, phases, execution_id, after_document=after_document)
    _report_end(reporting, result)
    book.clear()
    return result


def _report_start(reporter: Reporter, documents: Sequence[DocumentRun]) -> None:
    for item in documents:
        reporter.line(f"Setup: Currently validating document {item.label}")
    reporter.line("Executor: STARTED EXECUTION OF ALL DOCUMENTS")


def _report_end(reporter: Reporter, result: ExecutionResult) -> None:
    reporter.line("Executor: FINISHED EXECUTION OF ALL DOCUMENTS")
    for line in result.failure.block() if result.failure is not None else ():
        reporter.line(line)
    ending = "successfully" if result.status == "success" else "with failure - Execution failed!"
    reporter.line(f"TOE has completed execution {ending}")


def _opened(
    journal: StepJournal,
    documents: Sequence[DocumentRun],
    phases: Collection[str] | None,
    execution_id: str,
    ids: Callable[[], str],
) -> tuple[str, Progress]:
    """The execution's id and its earlier progress; a journal of other documents is deleted."""
    unfinished = unfinished_execution(journal, documents, phases)
    if unfinished:
        return unfinished, Progress(journal, journal.load())
    journal.clear()
    chosen = execution_id or ids()
    wanted = fingerprint(documents, phases)
    journal.append({"kind": "execution", "version": VERSION, "id": chosen, "fingerprint": wanted})
    return chosen, Progress(journal)


def unfinished_execution(
    journal: StepJournal, documents: Sequence[DocumentRun], phases: Collection[str] | None
) -> str:
    """The id of the run of these documents that the journal would continue; empty when there is none."""
    head: Mapping[str, Any] = next(iter(journal.load()), {})
    if head.get("version") == VERSION and head.get("fingerprint") == fingerprint(documents, phases):
        return str(head["id"])
    return ""


def fingerprint(documents: Sequence[DocumentRun], phases: Collection[str] | None) -> str:
    """The identity of a run: the state of one run is never used for another."""
    content = [[item.label, repr(item.document), dict(item.parameters)] for item in documents]
    return sha256_hex(canonical_json([content, None if phases is None else sorted(phases)]))
