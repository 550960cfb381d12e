"""A workflow document that passed its checks (spec/workflows.md 2).

`inputs`, `rollback` and `value` are kept as written: keys end in `.$` where the value is a path, and nothing is
resolved. All values are plain JSON data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NotRequired, TypedDict

from imagesmith.documents.conditions import Expression
from imagesmith.values.diagnostics import Position

WorkflowType = Literal["BUILD", "TEST", "DISTRIBUTION"]
ParameterType = Literal["string", "integer", "boolean", "stringList"]
OnFailure = Literal["Abort", "Continue"]

WORKFLOW_TYPES: Final[Mapping[str, WorkflowType]] = MappingProxyType(
    {"build": "BUILD", "test": "TEST", "distribution": "DISTRIBUTION"}
)
"""The word in a workflow's ARN -> its type."""


@dataclass(frozen=True)
class Parameter:
    """`default` has the type that `type` names: str, int, bool or a tuple of str; None without `has_default`."""

    name: str
    type: ParameterType
    default: str | int | bool | tuple[str, ...] | None
    has_default: bool
    description: str


@dataclass(frozen=True)
class Step:
    """One step. `rollback` is a boolean or the text of a path that resolves to one."""

    name: str
    action: str
    description: str
    condition: Expression | None
    inputs: Mapping[str, Any]
    on_failure: OnFailure
    rollback: bool | str
    timeout_seconds: int
    position: Position


@dataclass(frozen=True)
class Output:
    """`value` is a constant, or a text that is a path or holds paths in braces."""

    name: str
    value: Any


@dataclass(frozen=True)
class WorkflowDocument:
    """A workflow document that was read."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]

    def step(self, name: str) -> Step | None:
        return next((step for step in self.steps if step.name == name), None)

    def output(self, name: str) -> Output | None:
        return next((output for output in self.outputs if output.name == name), None)


class ParameterDetail(TypedDict):
    """A parameter as GetWorkflow shows it."""

    name: str
    type: str
    defaultValue: NotRequired[Sequence[str]]
    description: NotRequired[str]


def parameter_details(document: WorkflowDocument) -> list[ParameterDetail]:
    """The parameters as GetWorkflow shows them; absent members are left out (spec/workflows.md 2.2)."""
    details: list[ParameterDetail] = []
    for parameter in document.parameters:
        detail: ParameterDetail = {"name": parameter.name, "type": parameter.type}
        if parameter.has_default:
            detail["defaultValue"] = default_texts(parameter)
        if parameter.description:
            detail["description"] = parameter.description
        details.append(detail)
    return details


def default_texts(parameter: Parameter) -> list[str]:
    """The default in the form of a request: a list of strings."""
    default = parameter.default
    if isinstance(default, tuple):
        return list(default)
    if isinstance(default, bool):
        return ["true" if default else "false"]
    return [] if default is None else [str(default)]
