"""Documents that a step runs: finding, checking and bounding them (spec/components.md 10.6)."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterable, Sequence
from typing import Final

from imagesmith.components.actions.base import ActionFailed, ActionResult, NestedRequest
from imagesmith.components.execution import DocumentRun, Execution
from imagesmith.components.grammar import parse_component
from imagesmith.components.model import MAX_NESTED
from imagesmith.components.parsed import folded_message
from imagesmith.components.results import ExecutionResult, FailedStep
from imagesmith.components.s3 import S3Error, read_object
from imagesmith.components.services import NotConfigured, SourceDocument
from imagesmith.documents.fields import suggestion
from imagesmith.instances.protocol import InstanceError

_MAX_BYTES: Final = 65536


def run_nested_document(
    execution: Execution, parent: DocumentRun, request: NestedRequest, key: str
) -> ActionResult:
    """Run the document that a step requests, as a separate execution. Raises ActionFailed, TooManyDocuments."""
    chain = (*execution.chain, parent.label)
    if len(chain) > MAX_NESTED:
        raise ActionFailed(
            f"documents may be nested {MAX_NESTED} levels deep: {' > '.join(chain)} > {request.document}"
        )
    execution.step_environment.nested.count()
    source = _source(execution, request, parent.label)
    if source.label in chain:
        raise ActionFailed(f"the document {source.label} would run itself: {' > '.join(chain)} > {source.label}")
    parsed = parse_component(source.text, platform=parent.document.platform, stages_required=False)
    if parsed.document is None:
        raise ActionFailed(f"{source.label}: {folded_message(parsed.problems)}")
    environment = execution.step_environment
    nested = Execution(
        step_environment=dataclasses.replace(environment, progress=environment.progress.nested(key)),
        options=execution.options,
        ids=execution.ids,
        secrets=execution.secrets,
        nested=run_nested_document,
        chain=chain,
    )
    phases = [name.strip() for name in request.phases.split(",") if name.strip()] or None
    _warn_of_unknown_names(
        execution, source, "phase", phases or (), [phase.name for phase in parsed.document.phases]
    )
    declared = [parameter.name for parameter in parsed.document.parameters]
    _warn_of_unknown_names(execution, source, "parameter", request.parameters, declared)
    result = nested.run([DocumentRun(parsed.document, source.label, request.parameters)], phases, execution.ids())
    if result.status == "success":
        return ActionResult((result.nested_outputs(),), detailed=(result.detailed(),))
    raise _failure(result, nested.failure)


def _failure(result: ExecutionResult, failure: FailedStep | None) -> ActionFailed:
    said = (
        f" Step '{failure.step}' in phase '{failure.phase}': {failure.message}" if failure and failure.step else ""
    )
    return ActionFailed(
        f"{result.failure_message}{said}",
        outputs=(result.nested_outputs(),),
        stderr=failure.stderr if failure else "",
        detailed=(result.detailed(),),
    )


def _warn_of_unknown_names(
    execution: Execution, source: SourceDocument, what: str, names: Iterable[str], known: Sequence[str]
) -> None:
    """As in the service they change nothing, but a misspelling shows in the log."""
    effect = {"phase": "no steps run for it", "parameter": "its value is not used"}[what]
    for name in names:
        if name not in known:
            hint = suggestion(name, known) if known else f"it has no {what}s"
            message = f"warning: {source.label} has no {what} '{name}': {effect}{hint and f' ({hint})'}"
            execution.step_environment.reporter.output("stderr", execution.secrets.mask(message))


def _source(execution: Execution, request: NestedRequest, parent: str) -> SourceDocument:
    """The text of a document. Raises ActionFailed."""
    name = request.document
    services = execution.step_environment.services
    try:
        if name.startswith("arn:"):
            return services.components.get(name)
        if name.startswith("s3://"):
            data = read_object(services.s3, name, owner=request.bucket_owner, limit=_MAX_BYTES)
            return SourceDocument(name, data.decode("utf-8", "replace"))
        return _local(execution, name, parent)
    except (NotConfigured, LookupError, S3Error, InstanceError) as error:
        raise ActionFailed(f"the document '{name}' cannot be read: {error}") from error


def _local(execution: Execution, name: str, parent: str) -> SourceDocument:
    """A file of the instance: relative to the working directory, else to the folder of the parent
    (spec/components.md A32)."""
    instance = execution.step_environment.instance
    path = posixpath.join(execution.step_environment.working_directory or "", name)
    beside = posixpath.join(posixpath.dirname(parent), name)
    if not instance.exists(path) and not parent.startswith(("arn:", "s3://")) and instance.exists(beside):
        path = beside
    label = posixpath.normpath(path)
    return SourceDocument(label, instance.read(path, limit=_MAX_BYTES).decode("utf-8", "replace"))
