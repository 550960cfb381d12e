"""What grows only while a component or workflow runs is bounded too, and the step says what was too much."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.components.services import Services, SourceDocument
from imagesmith.workflow_documents.expressions import (
    Scope,
    Unresolvable,
    resolve_inputs,
    resolve_text,
    resolve_value,
)
from testing.component_support import RunText, bash, document, one_step

CONSTANT = f"constants:\n  - Const: {{type: string, value: {'x' * 20000}}}\n"
PARAMETER = "parameters:\n  - Given: {type: string}\n"
OUTPUT = "{{ build.Big.outputs.stdout }}"
EACH = f"loop:\n  forEach:\n    list: '{OUTPUT}'"


def chain(length: int) -> str:
    """Steps whose inputs name those of the next one twice; only the last is a plain text."""
    steps = [
        bash("true" + f" {{{{ build.Step{i + 1}.inputs.commands }}}}" * 2, name=f"Step{i}") for i in range(length)
    ]
    return document(*steps, bash("true x", name=f"Step{length}"))


def printed(count: int, char: str) -> str:
    return bash(f"head -c {count} /dev/zero | tr '\\0' {char}", name="Big")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (document(bash("true {{ Given }}" * 500), head=PARAMETER), "with {{ Given }} the text grows beyond"),
        (chain(15), "references are replaced"),
        (document(printed(900_000, "x"), bash(f": {OUTPUT}" * 9)), "the text grows beyond"),
        (
            document(printed(400_000, ","), bash("true", extra=EACH)),
            "the list of the loop has more than 100000 items",
        ),
    ],
    ids=["parameters", "inputs of inputs", "outputs", "items of a loop"],
)
def test_references_of_a_step_grow_within_bounds(run_text: RunText, text: str, told: str) -> None:
    """The step fails before the long text is made."""
    ran = run_text(text, parameters={"Given": "x" * 20000} if "Given" in text else None)
    assert ran.status == "failed"
    assert told in ran.result.failure.message, ran.log  # type: ignore[union-attr]


def test_constants_are_known_before_a_run() -> None:
    """A text that its constants make too long is refused with the place of the reference that is too much."""
    parsed = parse_component(document(bash("true {{ Const }}" * 500), head=CONSTANT))
    (problem,) = parsed.errors
    assert (problem.code, problem.position and problem.position.line) == ("too-large", 11)
    assert "with {{ Const }} the text grows beyond" in problem.message


class Tree:
    """Every component runs the next one many times over."""

    def get(self, arn: str) -> SourceDocument:
        depth = int(arn.rsplit("c", 1)[1])
        inner = f"arn:c{depth + 1}" if depth < 3 else "none.yml"
        extra = "onFailure: Ignore\nloop: {for: {start: 1, end: 40, updateBy: 1}}"
        return SourceDocument(arn, one_step("ExecuteDocument", {"document": inner}, extra=extra))


def test_documents_that_run_documents_are_counted(run_text: RunText) -> None:
    """Forty times forty times forty documents are refused, whatever the level they stand on."""
    first = one_step("ExecuteDocument", {"document": "arn:c1"}, extra="onFailure: Ignore")
    second = one_step("ExecuteDocument", {"document": "arn:c1"}, name="Last").rpartition("steps:\n")[2]
    ran = run_text(first + second, services=Services(components=Tree()))
    assert "can run at most 1000 documents in total" in ran.step("Last").error_message


SCOPE = Scope(step_outputs={"Run": {"output": ["x" * 100_000]}}, parameters={"name": "y" * 1000})


def test_values_of_a_workflow_grow_within_bounds(tmp_path: Path) -> None:
    """All inputs of one step share one budget; a text of its own has one too."""
    del tmp_path
    reference = "{{ $.stepOutputs.Run.output }}"
    inputs = {"instanceId": "i-1", "documentName": "D", "parameters": {"commands": [reference] * 20}}
    for attempt in (
        lambda: resolve_inputs(inputs, SCOPE, action="RunCommand"),
        lambda: resolve_text(reference * 20, SCOPE),
        lambda: resolve_value([reference] * 20, SCOPE),
    ):
        with pytest.raises(Unresolvable, match="grows beyond 1048576"):
            attempt()
    few = dataclasses.replace(SCOPE, step_outputs={})
    assert resolve_text("{{ $.parameters.name }}" * 3, few) == "y" * 3000
