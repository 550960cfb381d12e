"""Patterns in which `*` stands for any text and `?` for one character, as in IAM; nothing else is special."""

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
    # runs of stars are one star: `**a**a` would make the search backtrack for nothing
    pieces = re.split(r"(\*+|\?)", pattern)
    words = "".join(
        ".*" if piece.startswith("*") else "." if piece == "?" else re.escape(piece) for piece in pieces
    )
    return re.compile(words, re.DOTALL | (re.IGNORECASE if ignore_case else 0))
