"""Finds `{{ ... }}` in a text: one pass, never across braces or lines (spec/components.md 4.3).

Each document language defines the meaning of references; this module only finds and replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from imagesmith.values.expansion import Budget

# The body excludes braces and line breaks, so an unterminated `{{` in a script swallows nothing. It is scanned
# lazily up to the first brace: linear, because no two parts of the pattern can match the same blank twice.
_REFERENCE: Final = re.compile(r"\{\{([^{}\r\n]+)\}\}")


@dataclass(frozen=True, slots=True)
class Reference:
    """One `{{ body }}`; `start` and `end` are offsets into the text, braces included."""

    body: str
    start: int
    end: int


def find_references(text: str) -> Iterator[Reference]:
    """Each reference of a text, left to right. A body of blanks only is not a reference."""
    if "{{" not in text:
        return
    for match in _REFERENCE.finditer(text):
        body = match[1].strip(" \t")
        if body:
            yield Reference(body, match.start(), match.end())


def replace_references(text: str, value_of: Callable[[str], str | None], budget: Budget | None = None) -> str:
    """The text with each reference replaced; None leaves it unchanged. Inserted text is not scanned again.

    Raises TooLarge when the values exceed the budget, by default a budget for one text.
    """
    if "{{" not in text:
        return text
    left = budget or Budget()
    parts: list[str] = []
    done = 0
    for reference in find_references(text):
        value = value_of(reference.body)
        if value is None:
            continue
        left.spend(len(value), f"{{{{ {reference.body[:80]} }}}}")
        parts += (text[done : reference.start], value)
        done = reference.end
    return "".join((*parts, text[done:]))
