"""The inputs of an action against its JSON Schema: on nodes before the run, on resolved values in the run.

A small part of JSON Schema is supported (the keywords below); the reference page uses the schemas, too. Scalars are
texts, so `integer` and `boolean` mean "a text that reads as one" (spec/components.md 2.1), and a scalar with a
reference can be checked only after its resolution.

    type, properties, required, items, minItems, minLength, minimum, enum (x-ignore-case), pattern,
    additionalProperties, x-exclusive (groups of keys of which exactly one must be given)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from imagesmith.documents.fields import boolean_hint, boolean_of, integer_of, suggestion
from imagesmith.documents.nodes import Data, ListNode, MapNode, Node, ScalarNode, kind_of
from imagesmith.documents.references import find_references
from imagesmith.documents.slips import dash_hint
from imagesmith.values.diagnostics import Problem

Schema: TypeAlias = Mapping[str, Any]


class ActionInputError(ValueError):
    """A resolved input does not have the form that the action requires."""


def text(
    description: str, *, default: str | None = None, expected: str = "", ignore_case: bool = False, **more: Any
) -> Schema:
    """The schema of a string input. `expected` describes `pattern` in words; `ignore_case` is for `enum`."""
    stated = {"x-expected": expected} if expected else {}
    loose = {"x-ignore-case": True} if ignore_case else {}
    return {"type": "string", "description": description, **_default(default), **more, **stated, **loose}


def flag(description: str, *, default: bool | None = None) -> Schema:
    return {"type": "boolean", "description": description, **_default(default)}


def texts(description: str, **more: Any) -> Schema:
    """The schema of a list of strings."""
    return {"type": "array", "items": {"type": "string"}, "description": description, **more}


def inputs(
    properties: Mapping[str, Schema],
    *,
    required: tuple[str, ...] = (),
    exclusive: tuple[tuple[str, ...], ...] = (),
) -> Schema:
    """The schema of one mapping of inputs. Of each `exclusive` group exactly one key must be given."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
        **({"x-exclusive": [list(group) for group in exclusive]} if exclusive else {}),
    }


def _default(value: Any) -> Schema:
    return {} if value is None else {"default": value}


def check_node(schema: Schema, node: Node, problems: list[Problem], *, subject: str, path: str = "inputs") -> None:
    """Report all violations in a node. Unknown keys are warnings (spec/components.md A4)."""
    _SchemaCheck(problems, subject).node(schema, node, path)


def of_warning(subject: str) -> str:
    """The subject of a warning, which fails nothing: `Parsing step 'A' in phase 'build':`."""
    return subject.replace(" failed. Error:", ":")


@dataclass(frozen=True)
class _SchemaCheck:
    """Compares a document with a JSON schema and collects the problems."""

    problems: list[Problem]
    subject: str

    def node(self, schema: Schema, node: Node, path: str) -> None:
        kind = _kind(schema, isinstance(node, ListNode))
        if kind == "object":
            self._object(schema, node, path)
        elif kind == "array":
            self._array(schema, node, path)
        elif not isinstance(node, ScalarNode):
            hint = _as_text(node)
            self._report("wrong-type", f"'{path}' must be a string, not {kind_of(node)}", node, hint)
        elif not _has_reference(node.text):
            try:
                _convert({**schema, "type": kind}, node.text, path)
            except ActionInputError as error:
                hint = boolean_hint(node.text) if kind == "boolean" else ""
                self._report("wrong-value", str(error), node, hint)

    def _object(self, schema: Schema, node: Node, path: str) -> None:
        if not isinstance(node, MapNode):
            hint = "remove the '- ': this action takes one mapping" if isinstance(node, ListNode) else ""
            self._report("wrong-type", f"'{path}' must be a mapping, not {kind_of(node)}", node, hint)
            return
        self._keys(schema, node, path)
        for key, value in node.entries:
            inner = _property(schema, key.text)
            if inner is not None and not (isinstance(value, ScalarNode) and value.is_null):
                self.node(inner, value, f"{path}.{key.text}")

    def _array(self, schema: Schema, node: Node, path: str) -> None:
        if not isinstance(node, ListNode):
            text = node.text if isinstance(node, ScalarNode) else ""
            hint = dash_hint(text) if text.startswith("-") else "begin with '- '"
            self._report("wrong-type", f"'{path}' must be a list, not {kind_of(node)}", node, hint)
            return
        if len(node.items) < schema.get("minItems", 0):
            self._report("wrong-value", f"'{path}' must not be empty", node)
        for index, item in enumerate(node.items):
            self.node(schema["items"], item, f"{path}[{index}]")

    def _keys(self, schema: Schema, node: MapNode, path: str) -> None:
        for name in schema.get("required", ()):
            if node.get(name) is None:
                self._report("missing-key", f"'{path}' needs '{name}'", node)
        for group in schema.get("x-exclusive", ()):
            if sum(node.get(name) is not None for name in group) != 1:
                wanted = " and ".join(f"'{name}'" for name in group)
                self._report("wrong-keys", f"'{path}' needs exactly one of {wanted}", node)
        if schema.get("additionalProperties") is not False:
            return
        for key, _ in node.entries:
            if key.text not in schema["properties"]:
                hint = suggestion(key.text, schema["properties"])
                message = f"{of_warning(self.subject)} '{path}' has no key '{key.text[:80]}'; it is ignored"
                self.problems.append(
                    Problem(
                        code="unknown-input", message=message, position=key.position, hint=hint, severity="warning"
                    )
                )

    def _report(self, code: str, message: str, node: Node, hint: str = "") -> None:
        self.problems.append(Problem(code, f"{self.subject} {message}", node.position, hint))


def _as_text(node: Node) -> str:
    """A hint how to write as text a value that YAML parsed as a mapping or a list."""
    shown = ""
    if isinstance(node, ListNode) and all(isinstance(item, ScalarNode) for item in node.items):
        shown = f"[ {', '.join(item.text for item in node.items if isinstance(item, ScalarNode))} ]"
    elif isinstance(node, MapNode) and len(node.entries) == 1:
        key, value = node.entries[0]
        shown = f"{key.text}: {value.text}".rstrip() if isinstance(value, ScalarNode) else ""
    if shown and len(shown) <= 60:
        return "quote it to make it a string: '" + shown.replace("'", "''") + "'"
    return "quote a string that starts with {{ or [ or contains ': '"


def convert(schema: Schema, value: Data, path: str = "inputs") -> Any:
    """The typed value of resolved inputs, defaults filled in, unknown keys dropped. Raises InputError."""
    kind = _kind(schema, not isinstance(value, str | Mapping))
    if kind == "object":
        if not isinstance(value, Mapping):
            raise ActionInputError(f"'{path}' must be a mapping")
        return _convert_object(schema, value, path)
    if kind == "array":
        if isinstance(value, str | Mapping):
            raise ActionInputError(f"'{path}' must be a list")
        if len(value) < schema.get("minItems", 0):
            raise ActionInputError(f"'{path}' must not be empty")
        return [convert(schema["items"], item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        raise ActionInputError(f"'{path}' must be a string")
    return _convert({**schema, "type": kind}, value, path)


def _kind(schema: Schema, is_list: bool) -> str:
    """The type to check; a schema may allow both a text and a list."""
    kind = schema["type"]
    if isinstance(kind, str):
        return kind
    return "array" if is_list else "string"


def _convert_object(schema: Schema, value: Mapping[str, Data], path: str) -> Mapping[str, Any]:
    typed: dict[str, Any] = {}
    for name, item in value.items():
        inner = _property(schema, name)
        if inner is not None:
            typed[name] = convert(inner, item, f"{path}.{name}")
    for name in schema.get("required", ()):
        if name not in typed:
            raise ActionInputError(f"'{path}' needs '{name}'")
    for group in schema.get("x-exclusive", ()):
        if sum(name in typed for name in group) != 1:
            raise ActionInputError(f"'{path}' needs exactly one of {' and '.join(group)}")
    for name, inner in schema.get("properties", {}).items():
        if "default" in inner:
            typed.setdefault(name, inner["default"])
    return typed


def _convert(schema: Schema, value: str, path: str) -> str | int | bool:
    kind = schema["type"]
    if kind == "boolean":
        truth = boolean_of(value)
        if truth is None:
            raise ActionInputError(f"'{path}' must be true or false, not '{value[:80]}'")
        return truth
    if kind == "integer":
        number = integer_of(value)
        if number is None or number < schema.get("minimum", number):
            floor = f" of at least {schema['minimum']}" if "minimum" in schema else ""
            raise ActionInputError(f"'{path}' must be an integer{floor}, not '{value[:80]}'")
        return number
    if len(value) < schema.get("minLength", 0):
        raise ActionInputError(f"'{path}' must not be empty")
    if "enum" in schema and not _is_choice(schema, value):
        raise ActionInputError(f"'{path}' is '{value[:80]}', expected one of {', '.join(schema['enum'])}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        raise ActionInputError(
            f"'{path}' is '{value[:80]}', expected {schema.get('x-expected', schema['pattern'])}"
        )
    return value


def _is_choice(schema: Schema, value: str) -> bool:
    if schema.get("x-ignore-case"):
        return value.lower() in {choice.lower() for choice in schema["enum"]}
    return value in schema["enum"]


def _property(schema: Schema, name: str) -> Schema | None:
    found: Schema | None = schema.get("properties", {}).get(name)
    if found is None and isinstance(schema.get("additionalProperties"), Mapping):
        return schema["additionalProperties"]  # type: ignore[no-any-return]
    return found


def _has_reference(value: str) -> bool:
    return next(find_references(value), None) is not None
