"""The inputs of a step: their shape and types before the run, their values in it (spec/components.md 10.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from imagesmith.components.actions.assertions import ASSERT
from imagesmith.components.actions.base import Action, TypedInputs
from imagesmith.components.operators import parse_expression
from imagesmith.components.schema import Schema, check_node, convert
from imagesmith.documents.conditions import Expression
from imagesmith.documents.nodes import Data, ListNode, MapNode, Node, ScalarNode, kind_of
from imagesmith.values.diagnostics import Problem


def parse_inputs(
    step: MapNode, action: Action, platform: str, problems: list[Problem], subject: str
) -> Node | None:
    """Check the `inputs` of a step and return their node; a list action accepts one mapping as a list of one."""
    node = step.get("inputs")
    if node is None or _is_empty(node):
        if action.inputs_required:
            message = f"{subject} Action {action.name} has no inputs; it requires an 'inputs'"
            problems.append(Problem("no-inputs", message, node.position if node else step.position))
        return None
    if action.name == ASSERT:
        return node
    entries = node.items if action.shape == "list" and isinstance(node, ListNode) else (node,)
    if action.shape == "list" and not isinstance(node, ListNode | MapNode):
        message = f"{subject} 'inputs' must be a list of mappings, not {kind_of(node)}"
        problems.append(Problem("wrong-type", message, node.position))
        return None
    for index, entry in enumerate(entries):
        path = f"inputs[{index}]" if isinstance(node, ListNode) and action.shape == "list" else "inputs"
        check_node(action.schema, entry, problems, subject=subject, path=path)
        _check_platform(entry, action, platform, problems, subject)
        if action.check is not None:
            action.check(entry, problems, subject)
    return node


def typed_inputs(action: Action, entries: list[Data]) -> list[TypedInputs]:
    """Resolved inputs with their types and defaults; one entry for a map action. Raises InputError."""
    if action.shape == "map":
        return [convert(action.schema, entries[0] if entries else {})]
    return [convert(action.schema, entry, f"inputs[{index}]") for index, entry in enumerate(entries)]


def resolve_data(data: Data, resolve: Callable[[str], str]) -> Data:
    """The same structure with every text resolved; keys are unchanged (spec/components.md 4.2)."""
    if isinstance(data, str):
        return resolve(data)
    if isinstance(data, Mapping):
        return {key: resolve_data(value, resolve) for key, value in data.items()}
    return [resolve_data(item, resolve) for item in data]


def recorded_inputs(action: Action, entries: list[Data]) -> list[Mapping[str, Any]]:
    """Resolved inputs as detailedoutput.json shows them: absent optional ones have zero values."""
    return [_with_zeros(action.schema, entry) for entry in entries if isinstance(entry, Mapping)]


_ZEROS: Final[Mapping[str, Data | bool | int]] = {"string": "", "boolean": False, "integer": 0}


def _with_zeros(schema: Schema, entry: Mapping[str, Data]) -> Mapping[str, Any]:
    zeros = {
        name: inner.get("default", _ZEROS.get(str(inner["type"])))
        for name, inner in schema.get("properties", {}).items()
    }
    return {**zeros, **entry}


def script_lines(node: Node) -> tuple[int, ...]:
    """For each line of the script of joined commands: its line in the document."""
    commands = node.get("commands") if isinstance(node, MapNode) else None
    lines: list[int] = []
    for command in commands.items if isinstance(commands, ListNode) else ():
        if not isinstance(command, ScalarNode):
            continue
        first = command.position.line + (1 if command.block else 0)
        count = command.text.count("\n") + 1
        lines += range(first, first + count) if command.block else [first] * count
    return tuple(lines)


def _is_empty(node: Node) -> bool:
    return (isinstance(node, ListNode) and not node.items) or (isinstance(node, MapNode) and not node.entries)


def parse_assertion(node: Node, problems: list[Problem], subject: str) -> Expression | None:
    """The expression of an Assert; its operator is a direct member of the inputs (spec/components.md 10.2)."""
    if isinstance(node, MapNode):
        return parse_expression(node, problems, subject=f"{subject} inputs")
    message = f"{subject} 'inputs' of Assert must be one mapping, not {kind_of(node)}"
    problems.append(Problem("wrong-type", message, node.position, "write the operator without a dash"))
    return None


def _check_platform(entry: Node, action: Action, platform: str, problems: list[Problem], subject: str) -> None:
    if not isinstance(entry, MapNode):
        return
    for name in action.unsupported_inputs.get(platform, ()):
        key = entry.key(name)
        if key is not None:
            problems.append(
                Problem("wrong-platform", f"{subject} '{name}' does not exist on {platform}", key.position)
            )
