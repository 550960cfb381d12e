"""docs/compatibility.md is current, complete and names tests that exist."""

from __future__ import annotations

import re

from imagesmith.wire.model import Api
from testing.compatibility import EXACT, PAGE, page, rows
from testing.declared_errors import declared, error_rows
from testing.sentences import defined_tests

OPERATIONS = set(Api.load().operations)


def test_the_page_is_what_the_script_writes() -> None:
    """Run script/compatibility after a change of its rows, or of the model."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_operation_has_a_row_and_a_test() -> None:
    """All 77, and no rows of others; each says that it is exact, or what differs."""
    assert set(rows()) == OPERATIONS and len(OPERATIONS) == 77
    shown = dict(re.findall(r"^\| (\w+) \| (.*?) \| `", page().partition("\n## ")[0], re.MULTILINE))
    assert set(shown) == OPERATIONS
    assert all(text == EXACT or text.endswith(".") for text in shown.values())


def test_every_declared_error_has_a_test_or_a_reason() -> None:
    """Each pair of an operation and an error is in one row, which has either tests or a reason."""
    found = [(row.code, operation) for row in error_rows() for operation in row.operations]
    expected = [(code, operation) for code, operations in declared().items() for operation in operations]
    assert sorted(found) == sorted(expected) and len(found) > 500
    assert all(bool(row.tests) is not bool(row.why) for row in error_rows())


def test_every_named_test_exists() -> None:
    """Those of the rows, and those of the text above them."""
    named = set(re.findall(r"`(\w+)::(test_\w+)`", page()))
    assert named and not named - defined_tests()
