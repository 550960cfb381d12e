"""The `workflows` of a pipeline or an image: their documents, and whether these can run (spec/workflows.md 7.1).

entries --check_entries--> well formed       checks of the request alone
        --resolve_entries--> UsedWorkflow    stored documents, bound parameters, rules between the documents
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from imagesmith.recipes.kinds import kind_of_recipe
from imagesmith.resources.call import Call
from imagesmith.resources.errors import invalid_combination, invalid_value, quota_exceeded
from imagesmith.resources.resolution import MANAGED_OWNER, resolve
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.api import ApiRequest
from imagesmith.values.arn import Arn, ArnError
from imagesmith.workflow_documents.actions import CONTAINER_DISTRIBUTION, MACHINE_DISTRIBUTION
from imagesmith.workflow_documents.document import WorkflowDocument, WorkflowType
from imagesmith.workflow_documents.expressions import ParameterError, bind_parameters

if TYPE_CHECKING:
    from imagesmith.workflow_documents.grammar import ParsedWorkflow

_PATH: Final = "workflows"
_ONCE: Final = {"build": "BUILD", "distribution": "DISTRIBUTION"}
_DISTRIBUTES: Final = {"container": CONTAINER_DISTRIBUTION, "machine": MACHINE_DISTRIBUTION}
"""Kind of image -> the actions that distribute it."""
_NEEDED_OUTPUTS: Final = {
    "image-recipe": ("ImageId", "Build workflow must have output named ImageId to build AMI."),
    "container-recipe": ("InstanceId", "Build workflow must have output named InstanceId to build container."),
}
"""Kind of the recipe -> the output that the stages after BUILD use (spec/workflows.md 2.4)."""


@dataclass(frozen=True)
class UsedWorkflow:
    """One entry of `workflows` with its resolved document."""

    entry: Mapping[str, Any]
    record: Record
    document: WorkflowDocument
    parameters: Mapping[str, Any]
    """Every parameter in its type, defaults filled in."""

    @property
    def type(self) -> WorkflowType:
        kind: WorkflowType = self.record.document["type"]
        return kind


def check_entries(request: ApiRequest, _settings: Settings) -> None:
    """Check the rules that need no stored document. Raises ApiError."""
    entries = request.get(_PATH, ())
    if entries and "executionRole" not in request:
        raise invalid_combination("executionRole", "An execution role is required to provide workflows.")
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        arn = _arn(entry["workflowArn"], f"{_PATH}[{index}].workflowArn")
        if arn.owner == MANAGED_OWNER and (arn.version != "x.x.x" or arn.build is not None):
            detail = f"AWS managed workflows must have latest version 'x.x.x' for '{arn}'"
            raise invalid_value(_PATH, detail)
        family = arn.family or ""
        if family in _ONCE and family in seen:
            raise invalid_value(_PATH, f"At most one {_ONCE[family]} workflow can be given.")
        seen.add(family)
        if family != "test":
            _check_settings(entry, index)


def resolve_entries(call: Call, request: ApiRequest, recipe: Record) -> tuple[UsedWorkflow, ...]:
    """The documents that would run now, in the order of the request. Raises ApiError."""
    limit = call.settings.quotas.workflows_per_image
    if len(request.get(_PATH, ())) > limit:
        raise quota_exceeded("workflows per image", limit)
    used = tuple(_used(call, entry, index) for index, entry in enumerate(request.get(_PATH, ())))
    _check_outputs(used, recipe)
    for index, workflow in enumerate(used):
        _check_kind(workflow, recipe, index)
    return used


def needed_arns(call: Call, used: Sequence[UsedWorkflow]) -> list[str]:
    """The ARNs that must exist for these entries: builds and versions by number, no wildcards (spec/api.md 4.5)."""
    needed = []
    for workflow in used:
        arn = Arn.parse(workflow.entry["workflowArn"])
        if workflow.record.account == call.account and not arn.has_wildcard:
            needed.append(workflow.record.arn if arn.build else str(workflow.record.parsed.without_build))
    return needed


def _arn(text: str, path: str) -> Arn:
    try:
        return Arn.parse(text)
    except ArnError as error:
        raise invalid_value(path, f"{error}.") from error


def _check_settings(entry: ApiRequest, index: int) -> None:
    """`onFailure` ABORT is the default, so it is accepted for every type (spec/workflows.md 13, no. 24)."""
    refused = ["parallelGroup"] if entry.get("onFailure") == "ABORT" else ["onFailure", "parallelGroup"]
    for name in refused:
        if name in entry:
            raise invalid_combination(f"{_PATH}[{index}].{name}", "It is only valid for test workflows.")


def _used(call: Call, entry: ApiRequest, index: int) -> UsedWorkflow:
    record = resolve(call, entry["workflowArn"], path=f"{_PATH}[{index}].workflowArn", kind="workflow")
    parsed = _stored(record.document["data"], record.document["type"])
    if parsed.document is None:  # stored by a version with other rules
        reason = parsed.first.message if parsed.first else ""
        raise invalid_value(
            f"{_PATH}[{index}].workflowArn", f"The document of {record.arn} is not valid: {reason}."
        )
    path = f"{_PATH}[{index}].parameters"
    given: dict[str, Sequence[str]] = {}
    for parameter in entry.get("parameters", ()):
        name = parameter["name"]
        if name in given:
            raise invalid_combination(path, f"The parameter '{name}' is given twice.")
        given[name] = parameter["value"]
    try:
        values = bind_parameters(parsed.document, given)
    except ParameterError as error:
        raise invalid_combination(path, str(error)) from error
    return UsedWorkflow(entry, record, parsed.document, values)


@functools.lru_cache(maxsize=64)
def _stored(text: str, kind: WorkflowType) -> ParsedWorkflow:
    """Many pipelines name the same few workflows, and reading one takes milliseconds of a tick."""
    from imagesmith.workflow_documents.grammar import parse_workflow  # late: cli/startup.py

    return parse_workflow(text, kind)


def _check_outputs(used: Sequence[UsedWorkflow], recipe: Record) -> None:
    needed, refusal = _NEEDED_OUTPUTS[recipe.kind]
    owners: dict[str, str] = {}
    for workflow in used:
        if workflow.type == "BUILD" and workflow.document.output(needed) is None:
            raise invalid_value(_PATH, refusal)
        for output in workflow.document.outputs:
            if output.name in owners:
                raise invalid_combination(
                    _PATH, f"The output '{output.name}' is in {owners[output.name]} and in {workflow.record.arn}."
                )
            owners[output.name] = workflow.record.arn


def _check_kind(workflow: UsedWorkflow, recipe: Record, index: int) -> None:
    made = kind_of_recipe(recipe.kind).name
    for step in workflow.document.steps:
        found = next((kind for kind, actions in _DISTRIBUTES.items() if step.action in actions), made)
        if found != made:
            raise invalid_combination(
                f"{_PATH}[{index}].workflowArn",
                f"Step '{step.name}' ({step.action}) distributes {found} images; the recipe makes {made} images.",
            )
