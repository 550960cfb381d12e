"""The parameters and outputs of a workflow document (spec/workflows.md 2.2, 2.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

from imagesmith.documents.fields import Fields, boolean_of, integer_of
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, kind_of, scalars
from imagesmith.values.diagnostics import Position, Problem
from imagesmith.workflow_documents.document import Output, Parameter, ParameterType
from imagesmith.workflow_documents.node_values import typed_value
from imagesmith.workflow_documents.path_checks import Uses

TYPES: Final = ("string", "integer", "boolean", "stringList")
MAX_DESCRIPTION: Final = 1024
MAX_VALUE: Final = 1024
"""Most characters of a parameter's value."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")

Default = str | int | bool | tuple[str, ...] | None


def parse_parameters(root: Fields, problems: list[Problem], counts: list[Problem]) -> tuple[Parameter, ...]:
    """Read `parameters`; repeated names go to `counts` (spec/workflows.md 2.6, check 4)."""
    found: list[Parameter] = []
    for fields, name in _read_named(root, "parameters", problems, counts):
        fields.check_keys(("name", "type", "default", "description"))
        kind = cast("ParameterType", fields.choice("type", TYPES, default="string"))
        node = fields.node.get("default")
        default = None if node is None else _default(fields, kind, node)
        description = described(fields, least=0)
        found.append(
            Parameter(name=name, type=kind, default=default, has_default=node is not None, description=description)
        )
    return tuple(found)


def parse_outputs(
    root: Fields, problems: list[Problem], counts: list[Problem], *, uses: Uses, order: int
) -> tuple[Output, ...]:
    """Read `outputs`; `order` is the number of steps: an output may name any of them."""
    found: list[Output] = []
    for fields, name in _read_named(root, "outputs", problems, counts):
        fields.check_keys(("name", "value"))
        node = fields.required("value")
        if node is None:
            continue
        for scalar in scalars(node):
            uses.note(scalar, "chained", subject=f"{fields.subject}: value", order=order)
        found.append(Output(name, typed_value(node)))
    return tuple(found)


def described(fields: Fields, *, least: int = 1) -> str:
    """A description of `least` to 1024 characters, or an empty text without one."""
    given = fields.scalar("description")
    if given is None:
        return ""
    if not least <= len(given.text) <= MAX_DESCRIPTION:
        message = f"'description' must have {least} to {MAX_DESCRIPTION} characters, it has {len(given.text)}"
        fields.problem("wrong-value", message, given.position)
    return given.text


def _read_named(
    root: Fields, key: str, problems: list[Problem], counts: list[Problem]
) -> Iterator[tuple[Fields, str]]:
    listed = root.sequence(key)
    singular = key.removesuffix("s")
    taken: dict[str, Position] = {}
    for index, node in enumerate(listed.items if listed is not None else ()):
        if not isinstance(node, MapNode):
            message = f"{singular} {index + 1}: must be a mapping, not {kind_of(node)}"
            problems.append(Problem("wrong-type", message, node.position))
            continue
        fields = Fields(node, problems, f"{singular} {index + 1}")
        name = fields.scalar("name", required=True)
        if name is None:
            continue
        fields.subject = f"{singular} '{name.text[:80]}'"
        if not _NAME.match(name.text):
            message = "'name' must have 1 to 128 letters, digits, '-' or '_'"
            fields.problem("wrong-name", message, name.position)
        if name.text in taken:
            message = f"the name appears twice, first on line {taken[name.text].line}"
            counts.append(Problem("duplicate-name", f"{fields.subject}: {message}", name.position))
        taken.setdefault(name.text, name.position)
        yield fields, name.text


def _default(fields: Fields, kind: ParameterType, node: Node) -> Default:
    """The default in the type of its parameter."""
    value: Default = None
    if kind == "stringList" and isinstance(node, ListNode):
        texts = [item.text for item in node.items if isinstance(item, ScalarNode)]
        value = tuple(texts) if len(texts) == len(node.items) else None
    elif kind == "integer" and isinstance(node, ScalarNode):
        value = integer_of(node.text)
    elif kind == "boolean" and isinstance(node, ScalarNode):
        value = boolean_of(node.text)
    elif kind == "string" and isinstance(node, ScalarNode):
        value = node.text
    if value is None:
        words = "a list of strings" if kind == "stringList" else f"of type {kind}"
        shown = f"'{node.text[:80]}'" if isinstance(node, ScalarNode) else kind_of(node)
        fields.problem("wrong-type", f"'default' must be {words}, not {shown}", node.position)
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and len(text) > MAX_VALUE:
            message = f"a value has at most {MAX_VALUE} characters, 'default' has {len(text)}"
            fields.problem("wrong-value", message, node.position)
    return value
