"""Golden documents: what runs, and what a container holds afterwards."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import LineReporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import DocumentRun, RunOptions, run_documents
from imagesmith.components.services import Services, SystemClock
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance

GOLDEN = Path(__file__).parents[1] / "components" / "golden"
ON_DEBIAN = ("updates",)
"""Cases that need a package manager; the others run on a tiny image without network."""
TREE = r"""
list() {
  for path in "$1"/* "$1"/.[!.]*; do
    if [ -L "$path" ]; then printf '%s\001%s\001' "$path" "link $(readlink "$path")"
    elif [ -d "$path" ]; then printf '%s\001%s\001' "$path" "folder $(stat -c '%a %u:%g' "$path")"; list "$path"
    elif [ -f "$path" ]; then
      printf '%s\001%s\n' "$path" "file $(stat -c '%a %u:%g' "$path")"
      cat "$path"
      printf '\001'
    fi
  done
}
list /golden
"""


def golden_cases() -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob("*/component.yml"))


def check_golden(case: str, instance: ContainerInstance, parameters: Mapping[str, str], services: Services) -> None:
    """Run a case in /golden of a container and compare results and tree with its expectation, or write that."""
    parsed = parse_component((GOLDEN / case / "component.yml").read_bytes())
    assert parsed.document is not None, parsed.problems
    numbers = itertools.count(1)
    lines: list[str] = []
    instance.run(Command(("mkdir", "/golden")))
    result = run_documents(
        [DocumentRun(parsed.document, "component.yml", parameters)],
        instance,
        clock=SystemClock(),
        ids=lambda: f"id-{next(numbers)}",
        options=RunOptions(working_directory="/golden", services=services),
        reporter=LineReporter(lines.append),
    )
    seen = {**seen_result(result), "tree": seen_tree(instance)}
    expected = GOLDEN / case / "expected.json"
    if os.environ.get("IMAGESMITH_GOLDEN") == "write":
        expected.write_text(json.dumps(seen, indent=1, ensure_ascii=False) + "\n")
    assert seen == json.loads(expected.read_text()), "\n".join(lines)


def seen_result(result: ExecutionResult) -> dict[str, Any]:
    """What of a result is the same each time."""
    steps = {}
    for step in result.steps:
        shown: dict[str, Any] = {"status": step.status}
        if step.failure_message:
            shown["message"] = step.failure_message
        if step.outputs:
            shown["outputs"] = [
                {key: value for key, value in item.items() if key != "executionId"} for item in step.outputs
            ]
        steps[step.name] = shown
    return {"status": result.status, "steps": steps}


def seen_tree(instance: ContainerInstance) -> dict[str, str]:
    words = instance.run(Command(("sh", "-c", TREE))).stdout.decode("utf-8", "backslashreplace").split("\001")
    return dict(zip(words[:-1:2], words[1::2], strict=True))
