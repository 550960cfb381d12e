"""Finding and replacing `{{ ... }}` (spec/components.md 4.3)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.documents.references import find_references, replace_references


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ("", []),
        ("a {{ b }} c {{d}}", ["b", "d"]),
        ("{{\tb  }}", ["b"]),
        ("{{ a b }}", ["a b"]),
        ("{{ unterminated' }", []),
        ("{{ two\nlines }}", []),
        ("{{ two\rlines }}", []),
        ("{{ open {{ closed }} }}", ["closed"]),
        ("{{{ braces }}}", ["braces"]),
        ("{{}} {{ }} {{\t}}", []),
        ("{ { a } }", []),
        ("{{a}}{{b}}", ["a", "b"]),
    ],
)
def test_finding(text: str, bodies: list[str]) -> None:
    """References are found, unterminated and empty ones are not."""
    assert [reference.body for reference in find_references(text)] == bodies


def test_replacing() -> None:
    """Text around references is kept, None leaves one alone, values are not scanned again."""
    values = {"a": "1", "b": "{{ a }}"}
    assert replace_references("x{{ a }}y{{b}}z{{ c }}", values.get) == "x1y{{ a }}z{{ c }}"


@given(st.text(alphabet="{} a\n", max_size=60))
def test_replacing_by_itself_changes_nothing(text: str) -> None:
    """Replacing each reference by its own source text gives the text back."""
    sources = {reference.body: text[reference.start : reference.end] for reference in find_references(text)}
    assert all(source.startswith("{{") and source.endswith("}}") for source in sources.values())
    assert replace_references(text, lambda _: None) == text


def test_scanning_is_linear() -> None:
    """Texts made to be slow are scanned in no time."""
    started = time.thread_time()
    for text in ("{{" * 500_000, "{{ a " * 200_000, "{{" + " " * 1_000_000, "{{" + "a" * 1_000_000 + "}"):
        assert list(find_references(text)) == []
    assert time.thread_time() - started < 1
