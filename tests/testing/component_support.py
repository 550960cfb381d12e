"""Running documents on this computer, below a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesmith.components.grammar import parse_component
from imagesmith.components.results import ExecutionResult, StepResult
from imagesmith.components.runner import DocumentRun


@dataclass
class Ran:
    """A finished run and what it said."""

    result: ExecutionResult
    folder: Path
    lines: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.result.status

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def step(self, name: str) -> StepResult:
        return next(step for step in self.result.steps if step.name == name)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Executed, failed, ignored, skipped."""
        result = self.result
        return (
            result.executed_step_count,
            result.failed_step_count,
            result.ignored_failed_step_count,
            result.skipped_step_count,
        )


RunText = Callable[..., Ran]
Act = Callable[..., Ran]
"""Runs one list action with its entries."""


def document_run(text: str, label: str = "doc.yml", **values: Any) -> DocumentRun:
    """A parsed document, which must have no errors."""
    parsed = parse_component(text, stages_required=False)
    assert parsed.document is not None, [problem.render(label) for problem in parsed.problems]
    return DocumentRun(parsed.document, label, **values)


def bash(*commands: str, name: str = "Step", extra: str = "") -> str:
    """One ExecuteBash step as YAML, indented for a phase."""
    listed = "\n".join(f"            - {_quoted(command)}" for command in commands)
    more = "".join(f"        {line}\n" for line in extra.splitlines())
    return (
        f"      - name: {name}\n        action: ExecuteBash\n{more}        inputs:\n          commands:\n{listed}\n"
    )


def document(*steps: str, phase: str = "build", head: str = "") -> str:
    return f"schemaVersion: 1.0\n{head}phases:\n  - name: {phase}\n    steps:\n" + "".join(steps)


def one_step(action: str, inputs: Any, *, extra: str = "", name: str = "Step") -> str:
    """A document with one step whose inputs are given as a value."""
    more = "".join(f"        {line}\n" for line in extra.splitlines())
    return document(f"      - name: {name}\n        action: {action}\n{more}        inputs: {json.dumps(inputs)}\n")


def error(ran: Ran) -> str:
    """The message of the one step, which failed."""
    assert ran.status == "failed"
    return ran.step("Step").error_message


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


HEAD = "parameters:\n  - Port: {type: string, default: '80'}\nconstants:\n  - Home: {type: string, value: /srv}\n"
LOOP = "loop:\n  name: each\n  forEach: [a, b]"


def with_text(text: str) -> str:
    """A document whose last step holds a text."""
    last = bash(text, name="Last", extra=LOOP)
    return document(bash("uname -r", name="Kernel"), last, head=HEAD)
