"""Modules of one concept, functions that fit a screen: what is longer is listed here, and the lists only shrink."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "imagesmith"
MOST_LINES = 300
MOST_FUNCTION_LINES = 40
LONG_MODULES = {
    "artifacts/storage.py": 480,
    "instances/container.py": 440,
    "instances/sandbox.py": 360,
    "instances/spawner_program.py": 500,
    "layers/store.py": 500,
    "layers/unpacker.py": 580,
    "layers/writer.py": 340,
    "store/tables.py": 315,
}
"""Programs that are sent into a sandbox, tables, and what is still to be split. They must not grow."""
LONG_FUNCTIONS = {
    "cli/component.py:run": 57,
    "instances/machine/guest_session.py:wait": 51,
    "instances/machine/shell.py:execute": 49,
    "instances/machine/ssh_wait.py:wait_for_banner": 43,
    "processes.py:run": 44,
    "store/migrations/versions/0001_first_schema.py:upgrade": 44,
}
"""Tables, options of a command, and what is still to be split."""


def _modules() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), path.read_text()


def _functions() -> Iterator[tuple[str, int]]:
    for name, text in _modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{name}:{node.name}", node.end_lineno - node.lineno + 1


def _beyond(lengths: dict[str, int], most: int, listed: dict[str, int]) -> list[str]:
    """What is longer than allowed, and what is listed although it has become shorter."""
    longer = [
        f"{name} has {length} lines, {listed.get(name, most)} are allowed: split it along its concepts"
        for name, length in lengths.items()
        if length > listed.get(name, most)
    ]
    stale = [f"{name} may leave the list" for name in listed if lengths.get(name, 0) <= most]
    return longer + stale


def test_a_module_has_at_most_300_lines() -> None:
    """A concept that needs more lines is two concepts; exceptions do not grow."""
    assert _beyond({name: text.count("\n") for name, text in _modules()}, MOST_LINES, LONG_MODULES) == []


def test_a_function_has_at_most_40_lines() -> None:
    """Its signature and docstring included; exceptions do not grow."""
    lengths: dict[str, int] = {}
    for name, length in _functions():  # a name may stand in several classes of a module
        lengths[name] = max(length, lengths.get(name, 0))
    assert _beyond(lengths, MOST_FUNCTION_LINES, LONG_FUNCTIONS) == []
