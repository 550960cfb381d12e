"""docs/sentences.md is complete and true: every sentence of the model has a row, and every named test exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from testing.sentences import PAGE, Sentence, arranged, installed_model, problems, rows, sentences

TEXT = PAGE.read_text(encoding="utf-8")
MODEL = installed_model()


def test_every_sentence_of_the_installed_model_has_a_true_row() -> None:
    """`script/sentences` prints the same; `script/sentences --arrange` adds rows for new sentences."""
    assert problems(TEXT, MODEL) == []


def with_documentation(operation: str, text: str) -> Mapping[str, Any]:
    """The model with another documentation of one operation."""
    changed = {**MODEL["operations"][operation], "documentation": text}
    return {**MODEL, "operations": {**MODEL["operations"], operation: changed}}


def test_a_newer_model_with_another_sentence_is_noticed() -> None:
    """The sentence is told with its place; what describes needs no row; a sentence that is gone is told too."""
    new = "<p>Starts a build. The request fails on <code>Sundays</code>.</p>"
    found = problems(TEXT, with_documentation("StartImagePipelineExecution", new))
    added = Sentence("The request fails on Sundays.", ("StartImagePipelineExecution",))
    assert f"no row for {added.id} (StartImagePipelineExecution): {added.text}" in found
    gone = [item for item in sentences(MODEL).values() if item.places == ("StartImagePipelineExecution",)]
    assert gone
    assert set(found) == {
        f"no row for {added.id} (StartImagePipelineExecution): {added.text}",
        *(f"{item.id} (StartImagePipelineExecution) is no sentence of the model" for item in gone),
    }
    page = arranged(TEXT, with_documentation("StartImagePipelineExecution", new))
    assert [row for row in rows(page) if not row.words] == [row for row in rows(page) if row.id == added.id]


@pytest.mark.parametrize(
    ("proof", "problem"),
    [
        ("`test_pipelines::test_that_was_never_written`", "there is no test test_pipelines::"),
        ("`test_nowhere::test_anything`", "there is no test test_nowhere::"),
        ("not ours: ", "neither a test nor"),
        ("it is so", "neither a test nor"),
        ("", "neither a test nor"),
    ],
)
def test_a_row_without_a_proof_is_noticed(proof: str, problem: str) -> None:
    """A test that is not there, no reason, and no proof at all."""
    first = rows(TEXT)[0]
    page = TEXT.replace(str(first), f"| {first.id} | {first.where} | {first.words} | {proof} |")
    [told] = problems(page, MODEL)
    assert told.startswith(f"{first.id}: ") and problem in told


def test_rows_are_in_order_and_once() -> None:
    """Two rows that changed places, and one that stands twice."""
    first, second, *_ = rows(TEXT)
    swapped = TEXT.replace(f"{first}\n{second}\n", f"{second}\n{first}\n")
    assert problems(swapped, MODEL) == ["the rows are not in the order of their places"]
    doubled = TEXT.replace(f"{first}\n", f"{first}\n{first}\n")
    assert f"{first.id} has more than one row" in problems(doubled, MODEL)
    assert arranged(swapped, MODEL) == arranged(doubled, MODEL) == TEXT
