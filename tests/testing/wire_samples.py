"""One fixed valid value per shape, and every way to break it that the model forbids."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings

from imagesmith.wire.model import Shape
from imagesmith.wire.validate import python_pattern
from testing.loaded import service_model
from testing.strategies import Values

_MATCHLESS = ("", "\n", "!", "é", "\0", "no pattern allows this: \x7f <>|^`")


@dataclass(frozen=True)
class Break:
    """A value for the member at `path`, and how the error text about it begins after the path."""

    path: str
    value: Any
    detail: str


@cache
def sample(shape: Shape, *, whole: bool) -> Any:
    """A valid JSON value; `whole` has every member of every structure."""
    match shape.type:
        case "structure":
            wanted = [item for item in shape.members.values() if whole or item.required]
            return {item.name: sample(item.shape, whole=whole) for item in wanted}
        case "list":
            assert shape.item is not None
            return [sample(shape.item, whole=whole)] * max(shape.minimum or 0, 1)
        case "map":
            assert shape.key is not None and shape.item is not None
            return {sample(shape.key, whole=whole): sample(shape.item, whole=whole)}
        case "timestamp":
            return 1_893_456_000.5
        case "boolean":
            return False
        case "string":
            return _text(shape)
        case _:
            return max(shape.minimum or 0, 1)


def request(shape: Shape, *, whole: bool = False) -> dict[str, Any]:
    """A fresh copy of the sample of an input shape."""
    made: dict[str, Any] = json.loads(json.dumps(sample(shape, whole=whole)))  # no part shared with another
    return made


def breaks(shape: Shape, path: str = "") -> Iterator[Break]:
    """Every broken value of every member below a structure, each with the path that the error must name."""
    for name, member in shape.members.items():
        place = f"{path}.{name}" if path else name
        if member.required:
            yield Break(place, None, "cannot be null.")
        yield from _breaks(member.shape, place)


def put(document: Any, path: str, value: Any) -> Any:
    """The document with another value at a path such as `a.b[0].c`."""
    steps = re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)
    changed = copy.deepcopy(document)
    place = changed
    for name, index in steps[:-1]:
        place = place[name or int(index)]
    name, index = steps[-1]
    place[name or int(index)] = value
    return changed


def _breaks(shape: Shape, path: str) -> Iterator[Break]:
    for value, detail in _WRONG_TYPES[shape.type]:
        yield Break(path, value, detail)
    valid = sample(shape, whole=True)
    match shape.type:
        case "structure":
            yield from breaks(shape, path)
        case "list":
            assert shape.item is not None
            yield from _lengths(shape, path, [], lambda length: valid * length)
            yield Break(f"{path}[0]", None, "cannot be null.")
            yield from _breaks(shape.item, f"{path}[0]")
        case "map":
            assert shape.key is not None
            yield from _lengths(shape, path, {}, lambda length: {f"{index:04}": "v" for index in range(length)})
        case "string":
            yield from _lengths(shape, path, "", lambda length: "a" * length)
            yield from _texts(shape, path)
        case "integer" | "long":
            yield from _numbers(shape, path)


def _lengths(shape: Shape, path: str, empty: Any, of_length: Callable[[int], Any]) -> Iterator[Break]:
    if shape.minimum:
        yield Break(path, empty, f"must have length greater than or equal to {shape.minimum}.")
    if shape.maximum is not None:
        yield Break(path, of_length(shape.maximum + 1), f"must have length less than or equal to {shape.maximum}.")


def _texts(shape: Shape, path: str) -> Iterator[Break]:
    least, most = shape.minimum or 0, shape.maximum
    if shape.pattern is not None:
        pattern = re.compile(python_pattern(shape.pattern), re.ASCII)
        for text in _MATCHLESS:
            value = text * max(least, 1) if text else text
            if least <= len(value) and (most is None or len(value) <= most) and not pattern.search(value):
                yield Break(path, value, f"must match pattern {shape.pattern}")
    if shape.choices:
        yield Break(path, shape.choices[0].swapcase(), f"must be one of {', '.join(shape.choices)}.")


def _numbers(shape: Shape, path: str) -> Iterator[Break]:
    bits = {"integer": 32, "long": 64}[shape.type]
    yield Break(path, 2 ** (bits - 1), f"must be an integer of at most {bits} bits.")
    if shape.minimum is not None:
        yield Break(path, shape.minimum - 1, f"must have value greater than or equal to {shape.minimum}.")
    if shape.maximum is not None:
        yield Break(path, shape.maximum + 1, f"must have value less than or equal to {shape.maximum}.")


def _wrong(detail: str, *values: Any) -> list[tuple[Any, str]]:
    return [(value, detail) for value in values]


_WRONG_TYPES: dict[str, list[tuple[Any, str]]] = {
    "string": _wrong("must be a string.", 1, 1.5, True, ["a"], {"a": "b"}),
    "boolean": _wrong("must be a boolean.", "true", "", 0, 1, [], {}),
    "integer": _wrong("must be an integer.", "1", True, False, 60.0, 1.5, [60], {}),
    "long": _wrong("must be an integer.", "1", True, 60.0, [60]),
    "structure": _wrong("must be an object.", "a", 1, True, [{}]),
    "map": _wrong("must be an object.", "a", 1, True, [["a", "b"]]),
    "list": _wrong("must be a list.", "a", 1, True, {"0": "a"}),
    "timestamp": _wrong(
        "must be a number of seconds since the epoch",
        *("1893456000", "2030-01-01T00:00:00Z", True, [1], 1e30, -1e30, float("inf"), 10**400),
    ),
}


def _text(shape: Shape) -> str:
    return _SAMPLES[_key(shape)]


def _key(shape: Shape) -> tuple[Any, ...]:
    return shape.pattern, shape.minimum, shape.maximum, shape.choices


def _simplest(shape: Shape) -> str:
    """The simplest text that the model allows."""
    found: list[str] = []

    @settings(max_examples=1, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(Values(whole=False).of(shape))
    def take(value: str) -> None:
        found.append(value)

    take()
    return found[0]


def _strings(shape: Shape | None) -> Iterator[Shape]:
    if shape is not None:
        yield from [shape] if shape.type == "string" else []
        yield from _strings(shape.item)
        yield from _strings(shape.key)
        for member in shape.members.values():
            yield from _strings(member.shape)


# At import, because hypothesis does not like one of its tests to run inside another.
_SAMPLES = {
    key: _simplest(shape)
    for key, shape in {
        _key(shape): shape
        for operation in service_model().operations.values()
        for shape in _strings(operation.input)
    }.items()
}
