"""The types of step action inputs, and the lenient conversion of resolved values
(spec/workflows.md 3.4).

string      text; a number or a boolean becomes its text
boolean     true or false, also as text in any letter case
integer     whole number, also as a text of digits
json        text that holds JSON; a mapping or a list is serialized
strings     list of texts; one text is a list of one
arguments   mapping of names to `strings`
tags        mapping of names to `string`
map         mapping with `members`
list        list of mappings with `members`; with `loose`, one mapping is a list of one
            (spec/workflows.md 13, no. 18)
images      output of a DistributeImage step; always a path to it (spec/workflows.md 5.18, 5.19)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from imagesmith.documents.fields import boolean_of, integer_of
from imagesmith.workflow_documents.paths import ValueContext

Kind = Literal["string", "boolean", "integer", "json", "strings", "arguments", "tags", "map", "list", "images"]

SCALARS: Final = frozenset({"string", "boolean", "integer", "json"})
_WORDS: Final = {
    "string": "a string",
    "boolean": "true or false",
    "integer": "an integer",
    "json": "JSON text",
    "strings": "a list of strings",
    "arguments": "a mapping of names to lists of strings",
    "tags": "a mapping of names to strings",
    "map": "a mapping",
    "list": "a list of mappings",
    "images": "the distributed images of a DistributeImage step",
}


class InputError(ValueError):
    """A value that an input does not accept; `path` is its position below `inputs`."""

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        super().__init__(f"'{path}' {detail}")


@dataclass(frozen=True)
class Input:
    """One input of an action, or one member of a mapping input.

    `default` is the value of an absent input, for the reference page and the action itself: resolved inputs hold
    only the inputs of the document.
    """

    name: str
    kind: Kind
    description: str
    required: bool = False
    default: str | bool | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    max_length: int | None = None
    """Most characters of a text; most bytes of JSON."""
    max_items: int | None = None
    members: tuple[Input, ...] = ()
    """Of `map` and `list`; empty: any."""
    loose: bool = False
    unique: str = ""
    """Of `list`: the member whose values must be unique."""

    @property
    def is_scalar(self) -> bool:
        return self.kind in SCALARS

    def member(self, name: str) -> Input | None:
        return next((member for member in self.members if member.name == name), None)


def context_of(key: str, spec: Input | None) -> ValueContext:
    """The context of a key's value; `spec` is None for a key that no action documents
    (spec/workflows.md 3.3)."""
    if key.endswith(".$"):
        return "chained"
    return "bare" if spec is not None and spec.is_scalar else "text"


def text_of(value: Any) -> str:
    """A value as text, in interpolations and where a text is needed (spec/workflows.md 3.3)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def coerced(spec: Input, value: Any, path: str) -> Any:
    """The resolved value in the type of its input. Raises InputError."""
    if spec.is_scalar:
        return _scalar(spec, value, path)
    if spec.kind == "strings":
        return _strings(spec, value, path)
    if spec.kind in ("arguments", "tags"):
        return _coerce_named(spec, value, path)
    if spec.kind == "map":
        return _members(spec, _mapping(spec, value, path), path)
    if spec.loose and isinstance(value, Mapping):
        return [_members(spec, value, f"{path}[0]")]
    if not isinstance(value, list):
        raise InputError(path, f"must be {_WORDS[spec.kind]}, not {_format(value)}")
    _bounded(spec, len(value), path)
    items = [_mapping(spec, item, f"{path}[{index}]") for index, item in enumerate(value)]
    typed = [_members(spec, item, f"{path}[{index}]") for index, item in enumerate(items)]
    check_unique(spec, typed, path)
    return typed


def check_unique(spec: Input, items: Sequence[Any], path: str) -> None:
    """Refuse two entries with an equal unique member. Raises InputError."""
    seen: set[str] = set()
    for index, item in enumerate(items):
        value = item.get(spec.unique) if spec.unique and isinstance(item, Mapping) else None
        if isinstance(value, str) and value in seen:
            raise InputError(f"{path}[{index}].{spec.unique}", f"repeats '{value[:80]}'")
        seen.add(str(value))


def _scalar(spec: Input, value: Any, path: str) -> str | bool | int:
    if spec.kind == "boolean":
        truth = boolean_of(value) if isinstance(value, str) else value
        if not isinstance(truth, bool):
            raise InputError(path, f"must be true or false, not {_format(value)}")
        return truth
    if spec.kind == "integer":
        return _integer(spec, value, path)
    if spec.kind == "json":
        return _json(spec, value, path)
    if not isinstance(value, str | bool | int | float):
        raise InputError(path, f"must be a string, not {_format(value)}")
    text = text_of(value)
    if spec.choices and text not in spec.choices:
        raise InputError(path, f"is {_format(value)}, expected {' or '.join(spec.choices)}")
    if spec.max_length is not None and len(text) > spec.max_length:
        raise InputError(path, f"has {len(text)} characters; the limit is {spec.max_length}")
    if spec.required and not text:
        raise InputError(path, "must not be empty")
    return text


def _integer(spec: Input, value: Any, path: str) -> int:
    number: int | None = None
    if isinstance(value, str):
        number = integer_of(value)
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None:
        raise InputError(path, f"must be an integer, not {_format(value)}")
    if spec.minimum is not None and number < spec.minimum:
        raise InputError(path, f"must be at least {spec.minimum}, not {number}")
    return number


def _json(spec: Input, value: Any, path: str) -> str:
    text = text_of(value)
    if spec.max_length is not None and len(text.encode(errors="replace")) > spec.max_length:
        raise InputError(path, f"has more than {spec.max_length} bytes")
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"must be JSON text, not {_format(text)}") from error
    return text


def _strings(spec: Input, value: Any, path: str) -> list[str]:
    items = value if isinstance(value, list) else [value]
    _bounded(spec, len(items), path)
    for index, item in enumerate(items):
        if not isinstance(item, str | bool | int | float):
            item_path = f"{path}[{index}]" if isinstance(value, list) else path
            raise InputError(item_path, f"must be a string, not {_format(item)}")
    return [text_of(item) for item in items]


def _coerce_named(spec: Input, value: Any, path: str) -> Mapping[str, Any]:
    given = _mapping(spec, value, path)
    _bounded(spec, len(given), path)
    kind: Kind = "strings" if spec.kind == "arguments" else "string"
    return {name: coerced(Input(name, kind, ""), item, f"{path}.{name}") for name, item in given.items()}


def _members(spec: Input, value: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    if not spec.members:
        return dict(value)
    for member in spec.members:
        if member.required and value.get(member.name) is None:
            raise InputError(path, f"needs '{member.name}'")
    typed: dict[str, Any] = {}
    for name, item in value.items():
        inner = spec.member(name)
        if inner is None:
            raise InputError(path, f"has no key '{name[:80]}'")
        typed[name] = coerced(inner, item, f"{path}.{name}")
    return typed


def _mapping(spec: Input, value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        words = "a mapping" if spec.kind in ("list", "images") else _WORDS[spec.kind]
        raise InputError(path, f"must be {words}, not {_format(value)}")
    return value


def _bounded(spec: Input, count: int, path: str) -> None:
    if spec.max_items is not None and count > spec.max_items:
        raise InputError(path, f"has {count} entries; the limit is {spec.max_items}")


def _format(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    return f"'{text_of(value)[:80]}'"
