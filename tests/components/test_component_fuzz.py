"""Whatever a document says: problems or a document, in less than a second; runs end as a small model says."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.components.expressions import parse_reference
from imagesmith.components.grammar import parse_component
from imagesmith.components.parsed import folded_message
from imagesmith.components.runner import run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.host import HostInstance
from imagesmith.managed.catalog import managed_components
from testing.component_support import document_run

TEXTS = [component.text for component in managed_components()] + [
    path.read_text() for path in sorted((Path(__file__).parent / "golden").glob("*/component.yml"))
]
TOKENS = (
    *(
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n      ",
        "'",
        '"',
        "{",
        "}",
        "[",
        "]",
        "{{ ",
        " }}",
        "|",
        ">",
        "&a ",
        "*a",
        "<<: ",
        "#",
    ),
    *("name", "phases", "steps", "action", "inputs", "loop", "for", "forEach", "if", "and", "not", "then", "else"),
    *(
        "true",
        "null",
        "0777",
        "-1",
        "9" * 40,
        "1.5",
        "\t",
        "\0",
        "é",
        "𐀀",
        "!!str ",
        "---\n",
        "ExecuteBash",
        "Assert",
    ),
    *(
        "build.X.outputs.stdout",
        "loop.value",
        "aws:ssm:resolve(",
        "context:uuid",
        "stringEquals: a",
        "patternMatches: '('",
    ),
)


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A real document after some edits that no author would make."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        inserted = draw(st.sampled_from(TOKENS) | st.text(max_size=6))
        kind = draw(st.sampled_from(["insert", "replace", "cut", "repeat", "line"]))
        if kind == "insert":
            text = text[:start] + inserted + text[start:]
        elif kind == "replace":
            text = text[:start] + inserted + text[end:]
        elif kind == "cut":
            text = text[:start] + text[end:]
        elif kind == "repeat":
            text = text[:end] + text[start:end] * 3 + text[end:]
        else:
            lines = text.splitlines(keepends=True) or [""]
            moved = lines.pop(start % len(lines))
            lines.insert(end % (len(lines) + 1), moved)
            text = "".join(lines)
    return text


@settings(max_examples=300, deadline=None)
@given(mutations(), st.sampled_from(["Linux", "Windows", "macOS"]))
def test_mutated_documents(text: str, platform: str) -> None:
    """A mutated document gives a document or errors that can be told, never an exception."""
    started = time.thread_time()
    parsed = parse_component(text, platform=platform)
    assert time.thread_time() - started < 1
    assert (parsed.document is None) == bool(parsed.errors)
    for problem in parsed.problems:
        assert problem.render("x") and problem.code and problem.message
    if parsed.errors:
        assert folded_message(parsed.problems).startswith("Failed to parse document. Error: ")


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["aws:ssm:", "resolve(", ")", "aws:imds:", "iam/", "context:", "env:", ".", "[0]", "inputs"]
        )
        | st.sampled_from(["outputs", "a-b", "loop", "index", "uuid", " "])
        | st.text(max_size=3),
        max_size=8,
    ).map("".join)
)
def test_any_reference_is_read(body: str) -> None:
    """Whatever stands between the braces is a reference, a mistake, or not ours."""
    parse_reference(body)


@dataclass(frozen=True)
class PlannedStep:
    works: bool
    on_failure: str
    skipped: bool

    @property
    def status(self) -> str:
        if self.skipped:
            return "skipped"
        if self.works:
            return "success"
        return "ignoredFailure" if self.on_failure == "Ignore" else "failed"


PLANNED = st.builds(
    PlannedStep,
    st.booleans(),
    st.sampled_from(["Abort", "Continue", "Ignore"]),
    st.sampled_from([False, False, True]),
)
DOCUMENTS = st.lists(
    st.lists(st.lists(PLANNED, min_size=1, max_size=3), min_size=1, max_size=2), min_size=1, max_size=3
)


def written(phases: list[list[PlannedStep]]) -> str:
    lines = ["schemaVersion: 1.0", "phases:"]
    for number, steps in enumerate(phases):
        lines += [f"  - name: phase{number}", "    steps:"]
        for index, step in enumerate(steps):
            command = "true" if step.works else "false"
            guard = "        if: {stringIsEmpty: x}\n" if step.skipped else ""
            lines.append(
                f"      - name: step{index}\n        action: ExecuteBinary\n        onFailure: {step.on_failure}\n"
                f"{guard}        inputs: {{path: '{command}'}}"
            )
    return "\n".join(lines) + "\n"


def expected(documents: list[list[list[PlannedStep]]]) -> tuple[str, list[str]]:
    """The model: the status of the execution and of every step that ends."""
    statuses: list[str] = []
    for phases in documents:
        for steps in phases:
            for step in steps:
                statuses.append(step.status)
                if step.status == "failed" and step.on_failure == "Abort":
                    return "failed", statuses
    return ("failed" if "failed" in statuses else "success"), statuses


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS)
def test_runs_follow_the_model(documents: list[list[list[PlannedStep]]]) -> None:
    """Working, failing and skipped steps in any mixture run in the order and to the end of spec/components.md 8."""
    status, statuses = expected(documents)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        result = run_documents(
            [document_run(written(phases), f"{index}.yml") for index, phases in enumerate(documents)],
            HostInstance(Path(folder)),
            clock=SystemClock(),
            ids=lambda: str(next(numbers)),
        )
    assert (result.status, [step.status for step in result.steps]) == (status, statuses)
    assert result.failed_step_count == statuses.count("failed")
    assert result.executed_step_count == len(statuses) - statuses.count("skipped")
    assert (result.failure is not None) == ("failed" in statuses)
