"""No action is without its tests and its row of the reference page."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.components.actions.registry import action_registry
from testing.golden import GOLDEN, golden_cases

FOLDER = Path(__file__).parent
UNIT_TESTS = "".join(
    path.read_text() for path in sorted(FOLDER.glob("test_*.py")) if path.name != Path(__file__).name
)
GOLDEN_TEXT = "".join((GOLDEN / case / "component.yml").read_text() for case in golden_cases())
PAGE = (FOLDER.parents[1] / "docs/components.md").read_text()


@pytest.mark.parametrize("name", action_registry())
def test_every_action_is_tested_and_described(name: str) -> None:
    """Each action is named by a unit test and a row of the page; each action of Linux by a golden document too."""
    assert f'"{name}"' in UNIT_TESTS or f"action: {name}" in UNIT_TESTS
    assert f"| [{name}](#{name.lower()}) |" in PAGE and f"\n### {name}\n" in PAGE
    if "linux" in action_registry()[name].platforms:
        assert f"action: {name}\n" in GOLDEN_TEXT
