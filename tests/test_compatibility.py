"""docs/compatibility.md is current, complete and names tests that exist."""

from __future__ import annotations

import re

from imagesmith.wire.model import Api
from testing.compatibility import EXACT, PAGE, page, rows
from testing.sentences import defined_tests

OPERATIONS = set(Api.load().operations)


def test_the_page_is_what_the_script_writes() -> None:
    """Run script/compatibility after a change of its rows, or of the model."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_operation_has_a_row_and_a_test() -> None:
    """All 77, and no rows of others; each says that it is exact, or what differs."""
    assert set(rows()) == OPERATIONS and len(OPERATIONS) == 77
    shown = dict(re.findall(r"^\| (\w+) \| (.*?) \| `", page(), re.MULTILINE))
    assert set(shown) == OPERATIONS
    assert all(text == EXACT or text.endswith(".") for text in shown.values())


def test_every_named_test_exists() -> None:
    """Those of the rows, and those of the text above them."""
    named = set(re.findall(r"`(\w+)::(test_\w+)`", page()))
    assert named and not named - defined_tests()
