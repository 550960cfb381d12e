"""Checks before a run that each reference of a document can have a value (spec/components.md 4.6)."""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith.components.actions.assertions import ASSERT
from imagesmith.components.actions.registry import action_registry
from imagesmith.components.expressions import LoopRef, Malformed, ParameterRef, SsmRef, StepRef, parse_reference
from imagesmith.components.misspelt import GO_WORDS, chained_path, near_reference, nested_references
from imagesmith.components.model import ComponentDocument
from imagesmith.documents.fields import suggestion
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, scalars
from imagesmith.documents.references import find_references
from imagesmith.values.diagnostics import Position, Problem
from imagesmith.values.expansion import Budget, TooLarge


@dataclass(frozen=True)
class _CheckedStep:
    """The step whose texts are checked. `order` counts the steps of the document."""

    phase: str
    step: str
    order: int


def check_references(document: ComponentDocument, root: MapNode, problems: list[Problem]) -> None:
    """Report every reference to an unknown name, or to a value that does not exist yet at its position."""
    names = {item.name for item in document.parameters} | {item.name for item in document.constants}
    order: dict[tuple[str, str], int] = {}
    for phase in document.phases:
        for step in phase.steps:
            order[(phase.name, step.name)] = len(order)
    checker = _Checker(document, names, order, problems)
    for checked, node in _step_nodes(root, order):
        for text in _resolved_texts(node):
            checker.check(text, checked)
    for text in _fixed_texts(root):
        checker.fixed(text)


def _step_nodes(root: MapNode, order: dict[tuple[str, str], int]) -> list[tuple[_CheckedStep, MapNode]]:
    found: list[tuple[_CheckedStep, MapNode]] = []
    for phase in _mappings(root.get("phases")):
        for step in _mappings(phase.get("steps")):
            key = (_text(phase.get("name")), _text(step.get("name")))
            found.append((_CheckedStep(*key, order.get(key, len(order))), step))
    return found


def _resolved_texts(step: MapNode) -> list[ScalarNode]:
    """The texts in which references are replaced (spec/components.md 4.2)."""
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


def _fixed_texts(root: MapNode) -> list[ScalarNode]:
    """Defaults and constants: references in them are never replaced (spec/components.md 4.2)."""
    texts: list[ScalarNode] = []
    for listed, key in (("parameters", "default"), ("constants", "value")):
        for entry in _mappings(root.get(listed)):
            for _, content in entry.entries:
                value = content.get(key) if isinstance(content, MapNode) else None
                texts += [value] if isinstance(value, ScalarNode) else []
    return texts


@dataclass(frozen=True)
class _Checker:
    """Finds references of a document that nothing answers."""

    document: ComponentDocument
    names: set[str]
    order: dict[tuple[str, str], int]
    problems: list[Problem]

    def fixed(self, text: ScalarNode) -> None:
        """Warn about a reference in a text whose references are not replaced."""
        for found in find_references(text.text):
            reference = parse_reference(found.body)
            if isinstance(reference, ParameterRef) and reference.name not in self.names:
                continue
            if reference is not None and not isinstance(reference, LoopRef):
                message = f"'{{{{ {found.body[:80]} }}}}' is not replaced in defaults and constants"
                hint = "use the reference in the inputs of a step"
                position = text.position_at(found.start)
                self.problems.append(
                    Problem(
                        code="unreplaced-reference",
                        message=message,
                        position=position,
                        hint=hint,
                        severity="warning",
                    )
                )

    def check(self, text: ScalarNode, checked: _CheckedStep) -> None:
        for start in nested_references(text.text):
            message = "a reference inside another one is replaced, and the outer one is left unchanged"
            hint = "{{ aws:ssm:resolve(NAME) }} reads the stored parameter that the value of NAME names"
            self._warn(f"{_subject(checked)}: {message}", text.position_at(start), hint)
        budget = Budget()
        for found in find_references(text.text):
            reference = parse_reference(found.body)
            position = text.position_at(found.start)
            if reference is None or isinstance(reference, LoopRef):
                self._check_near(found.body, checked, position)
            if isinstance(reference, Malformed):
                self._report("malformed-reference", reference.reason, checked, position, reference.hint)
            elif isinstance(reference, ParameterRef):
                self._check_name(reference.name, checked, position)
                if not self._fits(reference.name, found.body, budget, checked, position):
                    return
            elif isinstance(reference, SsmRef):
                source = reference.source
                while isinstance(source, SsmRef):
                    source = source.source
                if isinstance(source, ParameterRef):
                    self._check_name(source.name, checked, position)
            elif isinstance(reference, StepRef):
                self._check_step(reference, found.body, checked, position)

    def _check_name(self, name: str, checked: _CheckedStep, position: Position) -> None:
        if name in self.names or name in GO_WORDS:
            return
        hint = suggestion(name, self.names) if self.names else "declare it under 'parameters'"
        message = f"'{{{{ {name} }}}}' is neither a parameter nor a constant of this document"
        self._report("undefined-reference", message, checked, position, hint)

    def _fits(self, name: str, body: str, budget: Budget, checked: _CheckedStep, position: Position) -> bool:
        """Whether the text stays within its bounds after its constants and defaults are inserted."""
        values = {item.name: item.value for item in self.document.constants}
        values |= {item.name: item.default or "" for item in self.document.parameters}
        try:
            budget.spend(len(values.get(name, "")), f"{{{{ {body} }}}}")
        except TooLarge as error:
            self._report("too-large", str(error), checked, position)
            return False
        return True

    def _check_near(self, body: str, checked: _CheckedStep, position: Position) -> None:
        """Warn about text that was probably meant as a reference."""
        step = self.document.step(checked.phase, checked.step)
        loop = step.loop if step is not None else None
        near = near_reference(body, self.document, [] if loop is None else ["loop", *filter(None, [loop.name])])
        if near is not None:
            message = f"{_subject(checked)}: '{{{{ {body[:80]} }}}}': {near.message}"
            self._warn(message, position, near.hint)

    def _warn(self, message: str, position: Position, hint: str) -> None:
        self.problems.append(
            Problem(code="unknown-reference", message=message, position=position, hint=hint, severity="warning")
        )

    def _check_step(self, reference: StepRef, body: str, checked: _CheckedStep, position: Position) -> None:
        phase = self.document.phase(reference.phase)
        if phase is None:
            meant = chained_path(body, self.document)
            hint = suggestion(reference.phase, [item.name for item in self.document.phases])
            hint = f"did you mean '{{{{ {meant} }}}}'?" if meant else hint
            self._report("undefined-reference", f"there is no phase '{reference.phase}'", checked, position, hint)
            return
        step = phase.step(reference.step)
        if step is None:
            message = f"there is no step '{reference.step}' in phase '{reference.phase}'"
            hint = suggestion(reference.step, [item.name for item in phase.steps])
            self._report("undefined-reference", message, checked, position, hint)
            return
        if reference.side == "outputs" and self.order[(reference.phase, reference.step)] >= checked.order:
            message = f"step '{reference.step}' has no outputs yet: it is not before this step"
            self._report("forward-reference", message, checked, position)
        action = action_registry().get(step.action)
        if action is None or action.name == ASSERT:
            return
        known = action.outputs if reference.side == "outputs" else tuple(action.schema.get("properties", ()))
        if reference.key not in known:
            message = f"{step.action} has no {reference.side[:-1]} '{reference.key}'"
            hint = suggestion(reference.key, known) if known else f"it has no {reference.side}"
            self._report("undefined-reference", message, checked, position, hint)

    def _report(self, code: str, message: str, checked: _CheckedStep, position: Position, hint: str = "") -> None:
        self.problems.append(Problem(code, f"{_subject(checked)} failed. Error: {message}", position, hint))


def _subject(checked: _CheckedStep) -> str:
    return f"Parsing step '{checked.step}' in phase '{checked.phase}'"


def _mappings(node: Node | None) -> list[MapNode]:
    return [item for item in node.items if isinstance(item, MapNode)] if isinstance(node, ListNode) else []


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, ScalarNode) else ""
