"""The workflows of a plan, ready to run: parsed, with their parameters and the ids of one run of the image."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.builds.execution_messages import ExecutionMessages
from imagesmith.builds.executions import execution_id
from imagesmith.builds.failures import StepFailed
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.store.build_outcome import Retry
from imagesmith.workflow_documents.document import WorkflowDocument, WorkflowType
from imagesmith.workflow_documents.expressions import bind_parameters
from imagesmith.workflow_documents.grammar import ParsedWorkflow, parse_workflow


@dataclass(frozen=True)
class Entry:
    """One workflow of the plan, ready to run."""

    id: str
    position: int
    planned: PlannedWorkflow
    document: WorkflowDocument
    parameters: Mapping[str, Any]


def entries_of(plan: BuildPlan, retry: Retry) -> list[Entry]:
    """The workflows of a plan in their order. Raises StepFailed."""
    entries = []
    for number, planned in enumerate(plan.workflows):
        parsed = _parsed(planned.text, planned.type)
        if parsed.document is None:
            raise StepFailed(f"the workflow {planned.arn} cannot be used: {parsed.first}")
        id = execution_id(plan.image_arn, retry.name_of(planned.type, number))
        position = retry.position_of(planned.type, number, workflows=len(plan.workflows))
        parameters = bind_parameters(parsed.document, planned.parameters)
        entries.append(
            Entry(id=id, position=position, planned=planned, document=parsed.document, parameters=parameters)
        )
    return entries


def outputs_of_type(messages: ExecutionMessages, entries: Sequence[Entry], type: WorkflowType) -> Mapping[str, Any]:
    """The outputs of the COMPLETED workflows of a type."""
    kept = [messages.outputs(entry.id) for entry in entries if entry.planned.type == type]
    return {name: value for outputs in kept for name, value in outputs.items()}


@functools.lru_cache(maxsize=64)
def _parsed(text: str, type: WorkflowType) -> ParsedWorkflow:
    """Parse a document, with a cache: parsing takes longer than running, and most images share few documents."""
    return parse_workflow(text, type)
