"""Patterns in which `*` matches any text and `?` one character, as in IAM; nothing else is special."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_COMPILED = 1024


def matches(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    return _compiled(pattern, ignore_case).fullmatch(text) is not None


def matches_any(patterns: Iterable[str], text: str, *, ignore_case: bool = False) -> bool:
    return any(matches(pattern, text, ignore_case=ignore_case) for pattern in patterns)


@lru_cache(maxsize=_COMPILED)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    # A star takes as little text as the part up to the next star needs, without backtracking: a return to an
    # earlier star would find no other match, and with eight stars it would never end.
    first, *rest = [
        "".join("." if char == "?" else re.escape(char) for char in part) for part in re.split(r"\*+", pattern)
    ]
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    words = f"{first}{middle}.*{rest[-1]}" if rest else first
    return re.compile(words, re.DOTALL | (re.IGNORECASE if ignore_case else 0))
