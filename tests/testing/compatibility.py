"""docs/compatibility.md, written from the service model, compatibility.toml and declared_errors.toml.

A row says what differs from the service and why, and names tests. An operation without a difference behaves as
docs/spec/api.md says the service does.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from imagesmith.resources.operations import built_operations
from imagesmith.wire.model import Api
from testing.declared_errors import error_table

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
ROWS: Final = Path(__file__).with_suffix(".toml")
EXACT: Final = "exact"


def rows() -> Mapping[str, Mapping[str, Any]]:
    """Operation -> what `differs`, where something does, and its `tests`."""
    return dict(tomllib.loads(ROWS.read_text(encoding="utf-8"))["operations"])


def page() -> str:
    """The whole page. Raises KeyError for an operation without a row."""
    document = tomllib.loads(ROWS.read_text(encoding="utf-8"))
    built, operations = built_operations(), Api.load().operations
    lines = [
        f"{document['head']}\n{len(built)} of {len(operations)} operations are built.\n",
        "| Operation | Here | Tests |",
        "|---|---|---|",
    ]
    for name in sorted(operations):
        row = document["operations"][name]
        here = row.get("differs", EXACT) if name in built else "not built: 501 `NotImplementedException`"
        lines.append(f"| {name} | {here} | {', '.join(f'`{test}`' for test in row['tests'])} |")
    return "\n".join([*lines, "", document["errors"].strip(), "", *error_table()]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
