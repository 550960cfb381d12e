"""References of a document before it runs: does each name something that can be there? (spec/components.md 4.6)"""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith.components.actions.assertions import ASSERT
from imagesmith.components.actions.registry import action_registry
from imagesmith.components.expressions import Malformed, ParameterRef, SsmRef, StepRef, parse_reference
from imagesmith.components.model import ComponentDocument
from imagesmith.documents.fields import suggestion
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, scalars
from imagesmith.documents.references import find_references
from imagesmith.values.diagnostics import Position, Problem


@dataclass(frozen=True)
class _Place:
    """The step whose texts are checked. `order` counts the steps of the document."""

    phase: str
    step: str
    order: int


def check_references(document: ComponentDocument, root: MapNode, problems: list[Problem]) -> None:
    """Report every reference that names nothing, or something that does not exist yet at its place."""
    names = {item.name for item in document.parameters} | {item.name for item in document.constants}
    order: dict[tuple[str, str], int] = {}
    for phase in document.phases:
        for step in phase.steps:
            order[(phase.name, step.name)] = len(order)
    checker = _Checker(document, names, order, problems)
    for place, node in _step_nodes(root, order):
        for text in _resolved_texts(node):
            checker.check(text, place)


def _step_nodes(root: MapNode, order: dict[tuple[str, str], int]) -> list[tuple[_Place, MapNode]]:
    found: list[tuple[_Place, MapNode]] = []
    for phase in _mappings(root.get("phases")):
        for step in _mappings(phase.get("steps")):
            key = (_text(phase.get("name")), _text(step.get("name")))
            found.append((_Place(*key, order.get(key, len(order))), step))
    return found


def _resolved_texts(step: MapNode) -> list[ScalarNode]:
    """The texts in which references are replaced (4.2)."""
    texts: list[ScalarNode] = []
    for node in (step.get("inputs"), step.get("if")):
        texts += scalars(node) if node is not None else ()
    loop = step.get("loop")
    each = loop.get("forEach") if isinstance(loop, MapNode) else None
    if isinstance(each, MapNode):
        each = each.get("list")
    if each is not None:
        texts += scalars(each)
    return texts


@dataclass(frozen=True)
class _Checker:
    document: ComponentDocument
    names: set[str]
    order: dict[tuple[str, str], int]
    problems: list[Problem]

    def check(self, text: ScalarNode, place: _Place) -> None:
        for found in find_references(text.text):
            reference = parse_reference(found.body)
            position = text.position_at(found.start)
            if isinstance(reference, Malformed):
                self._report("malformed-reference", reference.reason, place, position, reference.hint)
            elif isinstance(reference, ParameterRef):
                self._check_name(reference.name, place, position)
            elif isinstance(reference, SsmRef):
                source = reference.source
                while isinstance(source, SsmRef):
                    source = source.source
                if isinstance(source, ParameterRef):
                    self._check_name(source.name, place, position)
            elif isinstance(reference, StepRef):
                self._check_step(reference, place, position)

    def _check_name(self, name: str, place: _Place, position: Position) -> None:
        if name in self.names:
            return
        hint = suggestion(name, self.names) if self.names else "declare it under 'parameters'"
        message = f"'{{{{ {name} }}}}' is neither a parameter nor a constant of this document"
        self._report("undefined-reference", message, place, position, hint)

    def _check_step(self, reference: StepRef, place: _Place, position: Position) -> None:
        phase = self.document.phase(reference.phase)
        if phase is None:
            hint = suggestion(reference.phase, [item.name for item in self.document.phases])
            self._report("undefined-reference", f"there is no phase '{reference.phase}'", place, position, hint)
            return
        step = phase.step(reference.step)
        if step is None:
            message = f"there is no step '{reference.step}' in phase '{reference.phase}'"
            hint = suggestion(reference.step, [item.name for item in phase.steps])
            self._report("undefined-reference", message, place, position, hint)
            return
        if reference.side == "outputs" and self.order[(reference.phase, reference.step)] >= place.order:
            message = f"step '{reference.step}' has no outputs yet: it does not stand before this step"
            self._report("forward-reference", message, place, position)
        action = action_registry().get(step.action)
        if action is None or action.name == ASSERT:
            return
        known = action.outputs if reference.side == "outputs" else tuple(action.schema.get("properties", ()))
        if reference.key not in known:
            message = f"{step.action} has no {reference.side[:-1]} '{reference.key}'"
            hint = suggestion(reference.key, known) if known else f"it has no {reference.side}"
            self._report("undefined-reference", message, place, position, hint)

    def _report(self, code: str, message: str, place: _Place, position: Position, hint: str = "") -> None:
        told = f"Parsing step '{place.step}' in phase '{place.phase}' failed. Error: {message}"
        self.problems.append(Problem(code, told, position, hint))


def _mappings(node: Node | None) -> list[MapNode]:
    return [item for item in node.items if isinstance(item, MapNode)] if isinstance(node, ListNode) else []


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, ScalarNode) else ""
