"""The reference page of workflows is what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

from imagesmith.workflow_documents.actions import step_actions
from imagesmith.workflow_documents.grammar import parse_workflow
from imagesmith.workflow_documents.reference import reference_page


def test_the_example_is_sound() -> None:
    """The document of the page passes every check."""
    [example] = re.findall(r"```yaml\n(.*?)```", reference_page(), re.DOTALL)
    parsed = parse_workflow(example, "BUILD")
    assert parsed.problems == ()
    assert parsed.document is not None


def test_the_page_of_workflows_is_current() -> None:
    """docs/workflows.md was written from these tables, and has a section for each action."""
    page = (Path(__file__).parents[2] / "docs/workflows.md").read_text(encoding="utf-8")
    assert page == reference_page(), "run: python -m imagesmith.workflow_documents.reference >docs/workflows.md"
    assert all(f"\n### {name}\n" in page for name in step_actions())
