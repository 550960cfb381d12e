"""Patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*`, `?` and literal text. Pure.

A pattern is not trusted, so RE2 matches it: its time is linear in the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Protocol

import re2

_MAX_PATTERN: Final = 4096
_MAX_MEMORY: Final = 8 << 20


class ShellPatternError(ValueError):
    """A pattern with an escape that means nothing, or one that is too long."""


class _PatternMatch(Protocol):
    def span(self) -> tuple[int, int]: ...


class _CompiledShellPattern(Protocol):
    def search(self, text: str) -> _PatternMatch | None: ...

    def finditer(self, text: str) -> Iterator[_PatternMatch]: ...


def without_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without its beginning that matches. Raises ShellPatternError."""
    found = _compile(pattern, longest, True).search(value)
    return value[found.span()[1] :] if found else value


def without_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without its end that matches. Raises ShellPatternError."""
    return without_prefix(value[::-1], _reversed(pattern), longest=longest)[::-1]


def spans(value: str, pattern: str) -> Iterator[tuple[int, int]]:
    """Where a pattern matches, as long as possible each time. Raises ShellPatternError."""
    for found in _compile(pattern, True, False).finditer(value):
        yield found.span()


@lru_cache(maxsize=64)
def _compile(pattern: str, longest: bool, anchored: bool) -> _CompiledShellPattern:
    if len(pattern) > _MAX_PATTERN:
        raise ShellPatternError(f"the pattern has {len(pattern)} characters; the limit is {_MAX_PATTERN}")
    options = re2.Options()
    options.never_capture = True
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    try:
        compiled: _CompiledShellPattern = re2.compile("".join(_translated(pattern, longest, anchored)), options)
    except re2.error as error:
        raise ShellPatternError("the pattern is too large") from error
    return compiled


def _translated(pattern: str, longest: bool, anchored: bool) -> Iterator[str]:
    if anchored:
        yield "^"
    chars = iter(pattern)
    for char in chars:
        if char == "*":
            yield ".*" if longest else ".*?"
        elif char == "?":
            yield "."
        elif char == "\\":
            escaped = next(chars, "")
            if escaped not in ("*", "?", "\\", "}", "/"):
                raise ShellPatternError(f"the pattern escapes '{escaped}'; only * ? \\ }} and / can be escaped")
            yield re2.escape(escaped)
        else:
            yield re2.escape(char)


def _reversed(pattern: str) -> str:
    """The pattern for a reversed value: escapes stay before what they escape."""
    parts: list[str] = []
    index = 0
    while index < len(pattern):
        width = 2 if pattern[index] == "\\" else 1
        parts.append(pattern[index : index + width])
        index += width
    return "".join(reversed(parts))
