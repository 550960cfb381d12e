"""A component document that passed its checks (spec/components.md 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from imagesmith.documents.conditions import Expression
from imagesmith.documents.nodes import Data
from imagesmith.values.diagnostics import Position

OnFailure = Literal["Abort", "Continue", "Ignore"]
GuardAction = Literal["Execute", "Skip", "Abort"]
Platform = Literal["linux", "windows", "darwin"]
ComponentType = Literal["BUILD", "TEST"]

NO_TIMEOUT = -1
MAX_NESTED: Final = 3
"""Most levels of documents that run one another (spec/components.md 10.6)."""


@dataclass(frozen=True)
class ComponentParameter:
    """`default` is None for a required parameter."""

    name: str
    default: str | None
    description: str
    allowed_values: tuple[str, ...] | None
    position: Position


@dataclass(frozen=True)
class Constant:
    """A named value of a document, which nothing changes."""

    name: str
    value: str
    position: Position


@dataclass(frozen=True)
class CountedLoop:
    """`for`: start, start + update_by, ... up to and with end."""

    start: int
    end: int
    update_by: int


@dataclass(frozen=True)
class ListLoop:
    """`forEach` over a list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class SplitLoop:
    """`forEach` over a text that is split."""

    text: str
    delimiter: str


@dataclass(frozen=True)
class Loop:
    """The loop of a step: its name in references, and where its values come from."""

    name: str
    source: CountedLoop | ListLoop | SplitLoop
    position: Position


@dataclass(frozen=True)
class Guard:
    """The `if` of a step."""

    expression: Expression
    then: GuardAction
    otherwise: GuardAction
    position: Position


@dataclass(frozen=True)
class ComponentStep:
    """One step. `inputs` are as written: every scalar is text, references are unresolved."""

    name: str
    action: str
    inputs: Data | None
    assertion: Expression | None
    """The expression of an Assert."""
    timeout_seconds: int
    """NO_TIMEOUT: no limit."""
    on_failure: OnFailure
    max_attempts: int
    loop: Loop | None
    guard: Guard | None
    disable_logging: bool
    position: Position
    script_lines: tuple[int, ...] = ()
    """For ExecuteBash: the line of the document of each line of the script."""

    @property
    def entries(self) -> list[Data]:
        """The inputs as a list: one mapping is a list of one, none is an empty list."""
        if self.inputs is None:
            return []
        return list(self.inputs) if isinstance(self.inputs, list) else [self.inputs]


@dataclass(frozen=True)
class Phase:
    """The steps of build, validate or test, in their order."""

    name: str
    steps: tuple[ComponentStep, ...]
    disable_logging: bool
    position: Position

    def step(self, name: str) -> ComponentStep | None:
        return next((step for step in self.steps if step.name == name), None)


@dataclass(frozen=True)
class ComponentDocument:
    """A component document that was read."""

    name: str
    description: str
    parameters: tuple[ComponentParameter, ...]
    constants: tuple[Constant, ...]
    phases: tuple[Phase, ...]
    disable_logging: bool
    platform: Platform

    def phase(self, name: str) -> Phase | None:
        return next((phase for phase in self.phases if phase.name == name), None)

    def step(self, phase: str, name: str) -> ComponentStep | None:
        found = self.phase(phase)
        return None if found is None else found.step(name)


def component_type(document: ComponentDocument) -> ComponentType:
    """TEST when the only phase is named `test`, else BUILD (spec/components.md 2.9)."""
    return "TEST" if [phase.name for phase in document.phases] == ["test"] else "BUILD"


def parameter_details(document: ComponentDocument) -> list[dict[str, object]]:
    """The parameters as GetComponent shows them (spec/components.md 13.1). Absent members are left out."""
    details: list[dict[str, object]] = []
    for parameter in document.parameters:
        detail: dict[str, object] = {"name": parameter.name, "type": "string"}
        if parameter.default is not None:
            detail["defaultValue"] = [parameter.default]
        if parameter.description:
            detail["description"] = parameter.description[:1024]
        details.append(detail)
    return details
