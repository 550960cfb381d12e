"""Classes: a reader who searches for a name finds one class, and a sentence that says what it is."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def test_a_class_name_exists_once() -> None:
    """No two classes of the package share a name, whatever their modules."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for place, node in classes():
        places[node.name].append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_data_class_says_what_it_is() -> None:
    """In a docstring; without one, dataclasses writes the signature there, in half as much time again."""
    assert [
        f"{place} {node.name}"
        for place, node in classes()
        if any("dataclass" in ast.unparse(line) for line in node.decorator_list) and not ast.get_docstring(node)
    ] == []


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """All classes of the package, with file and line."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node
