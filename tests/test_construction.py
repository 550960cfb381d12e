"""Instances of our own classes: the values that they are made of stand under their names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
MOST_POSITIONAL = 4


def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text()
        )
        for path in sorted(SOURCE.rglob("*.py"))
    }


def classes(module: ast.Module) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef))


def constructions(tree: dict[str, ast.Module]) -> Iterator[tuple[str, ast.Call]]:
    """Every call that makes an instance of a class of the package, `cls(...)` among them."""
    defined = {name: classes(module) for name, module in tree.items()}
    for name, module in tree.items():
        nodes = list(ast.walk(module))
        known = {"cls", *defined[name]}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module in tree:
                imported = defined[node.module]
                known |= {alias.asname or alias.name for alias in node.names if alias.name in imported}
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
                yield name, node


def test_five_values_of_a_class_are_given_by_name() -> None:
    """Two swapped strings of one type pass the type checker, so a class of five members is built by keyword."""
    positional = [
        f"{name}:{call.lineno} {ast.unparse(call.func)}() has {len(call.args)} positional values"
        for name, call in constructions(modules())
        if len(call.args) > MOST_POSITIONAL
    ]

    assert positional == []
