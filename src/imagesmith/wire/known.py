"""The part of the service model that the code implements, and what a newer botocore adds.

    CreateImage                                  an operation
    CreateImage.workflows[].onFailure            a member of its input; `[]` in a list, `{}` in a map
    CreateImage.workflows[].onFailure=CONTINUE   a value of an enumeration

script/known-model writes the list known_model.txt from the locked botocore, after the code was reviewed against it.
Additions of a newer botocore would pass the check by its model and then have no effect: they are logged at the
start, and a request that uses one is refused by name (Unknown.refuse).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape

from imagesmith.resources.errors import ApiError, invalid_value, not_implemented

FILE: Final = "known_model.txt"
_SHOWN_VALUE: Final = 64

Owner = tuple[str, str]
"""The structure and the member that a line is about."""


def described(model: ServiceModel) -> Iterator[str]:
    """All inputs of a model, one line each."""
    return (line for line, _ in _described(model))


def _described(model: ServiceModel) -> Iterator[tuple[str, Owner]]:
    for name in model.operation_names:
        yield name, ("", "")
        given = model.operation_model(name).input_shape
        if given is not None:
            yield from _paths(name, given)


def _paths(path: str, shape: Shape, above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Owner]]:
    if shape.name in above:
        return  # model.py refuses it
    above |= {shape.name}
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            yield f"{path}.{name}", (shape.name, name)
            yield from _paths(f"{path}.{name}", member, above)
    elif isinstance(shape, ListShape):
        yield from _paths(f"{path}[]", shape.member, above)
    elif isinstance(shape, MapShape):
        yield from _paths(f"{path}{{}}", shape.value, above)
    elif isinstance(shape, StringShape):
        for choice in shape.enum:
            yield f"{path}={choice}", ("", "")


def recorded() -> frozenset[str]:
    """The lines of the list."""
    return frozenset(files(__package__).joinpath(FILE).read_text(encoding="utf-8").split("\n")) - {""}


@dataclass(frozen=True)
class Unknown:
    """The parts of a model that the code does not implement."""

    lines: frozenset[str] = field(default_factory=frozenset)
    members: frozenset[Owner] = field(default_factory=frozenset)
    """The same as members of structures: none may be required, because a client of today does not send it."""

    @classmethod
    def of(cls, *models: ServiceModel, known: frozenset[str]) -> Unknown:
        """The parts of the models that `known` lacks.

        An enumeration that replaces a free text adds nothing; everything below an unknown line is unknown, too.
        """
        free = {line.partition("=")[0] for line in known if "=" in line}
        found = dict[str, Owner]()
        for model in models:
            for line, owner in _described(model):
                path, mark, _ = line.partition("=")
                if line not in known and not (mark and path in known and path not in free):
                    found[line] = owner
        return cls(frozenset(found), frozenset(found.values()))

    def tops(self) -> list[str]:
        """The lines that are not below another line."""
        return sorted(line for line in self.lines if not any(above in self.lines for above in _above(line)))

    def refuse(self, operation: str, code: str, members: Mapping[str, Any]) -> None:
        """Refuse a request that is unknown, or whose first unknown member or value this is. Raises ApiError."""
        if operation in self.lines:
            raise not_implemented(operation)
        found = self._find_unknown(operation, "", members) if self.lines else None
        if found is not None:
            raise ApiError(code, invalid_value(found[0], f"{found[1]} not known to this version.").message)

    def _find_unknown(self, line: str, shown: str, value: Any) -> tuple[str, str] | None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                if item is None:
                    continue
                below, shown_below = f"{line}.{name}", f"{shown}.{name}" if shown else str(name)
                if below in self.lines:
                    return shown_below, f"{name} is"
                found = self._find_unknown(below, shown_below, item) or self._find_unknown(
                    f"{line}{{}}", shown_below, item
                )
                if found:
                    return found
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if found := self._find_unknown(f"{line}[]", f"{shown}[{index}]", item):
                    return found
        elif isinstance(value, str) and f"{line}={value}" in self.lines:
            return shown, f"{shown.rpartition('.')[2]} has the value {value[:_SHOWN_VALUE]}, which is"
        return None


def _above(line: str) -> Iterator[str]:
    path, mark, _ = line.partition("=")
    if mark:
        yield path
    parts = path.replace("[]", "").replace("{}", "").split(".")
    shortened = path
    for _ in parts[1:]:
        shortened = shortened.rpartition(".")[0]
        yield shortened.removesuffix("[]").removesuffix("{}")
        yield shortened
