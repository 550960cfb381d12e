"""The workflows of a plan, ready to run: read, with their parameters, under the ids of one run of the image."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.workflows.document import WorkflowDocument, WorkflowType
from imagesmith.workflows.dynamic import bind_parameters
from imagesmith.workflows.executions import Executions, execution_id
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.grammar import ParsedWorkflow, parse_workflow
from imagesmith.workflows.retry import Retry


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
        position = retry.place_of(plan, planned.type, number)
        parameters = bind_parameters(parsed.document, planned.parameters)
        entries.append(Entry(id, position, planned, parsed.document, parameters))
    return entries


def kept_outputs(executions: Executions, entries: Sequence[Entry], type: WorkflowType) -> dict[str, Any]:
    """What the workflows of a type put out that are COMPLETED."""
    found: dict[str, Any] = {}
    for entry in entries:
        if entry.planned.type == type:
            found |= executions.outputs(entry.id)
    return found


@functools.lru_cache(maxsize=64)
def _parsed(text: str, type: WorkflowType) -> ParsedWorkflow:
    """Reading a document takes longer than running it, and most images run the same few."""
    return parse_workflow(text, type)
