"""The reference page is what the schemas say."""

from __future__ import annotations

from pathlib import Path

from imagesmith.components.actions.registry import action_registry
from imagesmith.components.reference import reference_page


def test_the_page_is_current() -> None:
    """docs/components.md was written from these schemas, and has a section for each action."""
    page = (Path(__file__).parents[2] / "docs/components.md").read_text(encoding="utf-8")
    assert page == reference_page(), "run: python -m imagesmith.components.reference >docs/components.md"
    assert all(f"\n### {name}\n" in page for name in action_registry())
