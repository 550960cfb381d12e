"""Parameters and constants of a document, and the values they have in a run (spec/components.md 2.5, 2.6, 4.7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from imagesmith.components.model import ComponentDocument, ComponentParameter, Constant
from imagesmith.documents.fields import Fields
from imagesmith.documents.nodes import ListNode, MapNode, ScalarNode, kind_of
from imagesmith.values.diagnostics import Position, Problem

_SHOWN: Final = 20
"""Most allowed values in an error."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{3,128}\Z")


class ComponentParameterError(ValueError):
    """A parameter value that its document does not allow."""

    @property
    def sentence(self) -> str:
        text = str(self)
        return text[:1].upper() + text[1:]


def given_values(document: ComponentDocument, given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Values by name, from NAME=VALUE pairs. The caller handles names that the document does not declare.

    Raises ParameterError for a repeated name, and for a value that `allowedValues` does not hold.
    """
    values: dict[str, str] = {}
    for name, value in given:
        if name in values:
            raise ComponentParameterError(f"the parameter '{name}' is given twice")
        values[name] = value
    variable_values(document, values)
    return values


def parse_parameters(
    root: MapNode, problems: list[Problem], taken: dict[str, Position]
) -> tuple[ComponentParameter, ...]:
    """Read `parameters`. `taken` holds the names of parameters and constants met so far, and grows."""
    found: list[ComponentParameter] = []
    for name, fields in _entries(root, "parameters", problems, taken):
        fields.check_keys(("type", "default", "description", "allowedValues"))
        _check_type(fields)
        default = fields.scalar("default")
        allowed = _allowed_values(fields)
        if default is not None and allowed is not None and default.text not in allowed:
            fields.problem(
                "wrong-value",
                f"the default '{default.text[:80]}' is not among 'allowedValues'",
                default.position,
            )
        found.append(
            ComponentParameter(
                name=name.text,
                default=None if default is None else default.text,
                description=fields.text("description"),
                allowed_values=allowed,
                position=name.position,
            )
        )
    return tuple(found)


def parse_constants(root: MapNode, problems: list[Problem], taken: dict[str, Position]) -> tuple[Constant, ...]:
    """Read `constants`; see parse_parameters()."""
    found: list[Constant] = []
    for name, fields in _entries(root, "constants", problems, taken):
        fields.check_keys(("type", "value"))
        _check_type(fields)
        value = fields.scalar("value", required=True)
        found.append(Constant(name.text, "" if value is None else value.text, name.position))
    return tuple(found)


def variable_values(document: ComponentDocument, given: Mapping[str, str]) -> dict[str, str]:
    """Every parameter and constant with its value; unknown names in `given` are ignored, missing ones are empty.

    Raises ParameterError for a value that `allowedValues` does not hold.
    """
    values = {constant.name: constant.value for constant in document.constants}
    for parameter in document.parameters:
        value = given.get(parameter.name, parameter.default or "")
        if (
            parameter.name in given
            and parameter.allowed_values is not None
            and value not in parameter.allowed_values
        ):
            allowed = ", ".join(parameter.allowed_values[:_SHOWN])
            more = ", ..." if len(parameter.allowed_values) > _SHOWN else ""
            message = (
                f"the value of the parameter '{parameter.name}' is not allowed; allowed values: {allowed}{more}"
            )
            raise ComponentParameterError(message)
        values[parameter.name] = value
    return values


def _entries(
    root: MapNode, key: str, problems: list[Problem], taken: dict[str, Position]
) -> Iterator[tuple[ScalarNode, Fields]]:
    listed = Fields(root, problems, "document").sequence(key)
    singular = key.removesuffix("s")
    for node in listed.items if listed is not None else ():
        if not isinstance(node, MapNode) or len(node.entries) != 1:
            hint = "write '- Name:' and indent 'type' below it" if isinstance(node, MapNode) else ""
            message = f"an entry of '{key}' must be a mapping with one key, the name"
            problems.append(Problem("declaration-shape", message, node.position, hint))
            continue
        name, content = node.entries[0]
        if not _NAME.match(name.text):
            message = f"the {singular} name '{name.text[:80]}' must have 3 to 128 letters, digits, '-' or '_'"
            problems.append(Problem("wrong-name", message, name.position))
        if name.text in taken:
            message = f"the name '{name.text[:80]}' is already used on line {taken[name.text].line}"
            problems.append(
                Problem("duplicate-name", message, name.position, "parameters and constants share one namespace")
            )
        taken.setdefault(name.text, name.position)
        if not isinstance(content, MapNode):
            message = f"{singular} '{name.text[:80]}' must be a mapping, not {kind_of(content)}"
            problems.append(Problem("declaration-shape", message, content.position))
            continue
        yield name, Fields(content, problems, f"{singular} '{name.text[:80]}'")


def _check_type(fields: Fields) -> None:
    kind = fields.scalar("type", required=True)
    if kind is not None and kind.text.lower() != "string":
        fields.problem("wrong-value", f"the type '{kind.text[:40]}' is not supported", kind.position, "use string")


def _allowed_values(fields: Fields) -> tuple[str, ...] | None:
    listed = fields.sequence("allowedValues")
    if listed is None:
        return None
    return _texts(listed, fields)


def _texts(listed: ListNode, fields: Fields) -> tuple[str, ...]:
    texts: list[str] = []
    for item in listed.items:
        if isinstance(item, ScalarNode):
            texts.append(item.text)
        else:
            fields.problem("wrong-type", f"an allowed value must be a string, not {kind_of(item)}", item.position)
    return tuple(texts)
