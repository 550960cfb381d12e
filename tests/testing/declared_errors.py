"""The second table of docs/compatibility.md: where each error that the model declares is reached, or why it is not.

Rows are those of declared_errors.toml; compatibility.py puts the table into the page.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imagesmith.wire.model import builtin_model

_ROWS: Final = Path(__file__).with_suffix(".toml")
_OTHERS: Final = "others"


@dataclass(frozen=True)
class ErrorRow:
    """Some of the operations that declare an error, and the tests that reach it there, or why it cannot occur."""

    code: str
    operations: tuple[str, ...]
    tests: tuple[str, ...]
    why: str
    is_rest: bool
    """Whether these are all operations that no other row of the error names."""


def declared() -> Mapping[str, frozenset[str]]:
    """Error -> the operations that declare it."""
    model = builtin_model()
    found: dict[str, set[str]] = {}
    for operation in model.operation_names:
        for shape in model.operation_model(operation).error_shapes:
            found.setdefault(shape.name, set()).add(operation)
    return {code: frozenset(operations) for code, operations in found.items()}


def error_rows() -> Sequence[ErrorRow]:
    """The rows in the order of the file. Raises ValueError for one that fits no declaration."""
    content: Mapping[str, list[dict[str, Any]]] = tomllib.loads(_ROWS.read_text(encoding="utf-8"))
    known = declared()
    rows: list[ErrorRow] = []
    for code, entries in content.items():
        left = set(known[code])
        for entry in entries:
            rest = entry["operations"] == _OTHERS
            named = set(left) if rest else set(entry["operations"])
            if not named or not named <= left:
                raise ValueError(f"{code}: {sorted(named - left) or 'no operation is left'}")
            left -= named
            row = ErrorRow(code, tuple(sorted(named)), tuple(entry.get("tests", ())), entry.get("why", ""), rest)
            rows.append(row)
        if left:
            raise ValueError(f"{code}: no row for {sorted(left)}")
    return rows


def error_table() -> list[str]:
    """The lines of the table."""
    sizes = {code: len(operations) for code, operations in declared().items()}
    lines = ["| Error | Operations | Test, or why it cannot occur |", "|---|---|---|"]
    for row in error_rows():
        names = ", ".join(row.operations)
        if row.is_rest and len(row.operations) > 12:
            everything = len(row.operations) == sizes[row.code]
            names = f"all {sizes[row.code]} that declare it" if everything else f"the other {len(row.operations)}"
        lines.append(f"| {row.code} | {names} | {', '.join(f'`{test}`' for test in row.tests) or row.why} |")
    return lines
