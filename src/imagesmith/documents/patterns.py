"""Regular expressions of documents: RE2's language, matched by RE2 itself (spec/components.md 6.2).

A pattern comes from an untrusted document, and the standard library's engine can take exponential time;
RE2's time is linear in the text, and its memory is bounded by `_MAX_MEMORY`.

The service's own agent is written in Go, whose engine has the same language except for
`\\C` (one byte), which it refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

import re2

MAX_PATTERN: Final = 4096
"""Most characters of a pattern."""
_MAX_MEMORY: Final = 8 << 20
"""Most bytes of one compiled pattern and of the states that a search may keep."""
_QUOTED: Final = re.compile(r"\\Q.*?(?:\\E|\Z)|\\(?P<escaped>.)", re.DOTALL)
"""Literal text between `\\Q` and `\\E`, or one escape."""


class PatternError(ValueError):
    """A pattern that RE2 does not accept; the text states why."""


class _Compiled(Protocol):
    def search(self, text: bytes) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern."""

    _compiled: _Compiled

    def found_in(self, text: str) -> bool:
        """Whether some part of the text matches."""
        return self._compiled.search(_encode(text)) is not None


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> Pattern:
    """Compile a pattern. Raises PatternError."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"the pattern has {len(pattern)} characters; the limit is {MAX_PATTERN}")
    if any(found["escaped"] == "C" for found in _QUOTED.finditer(pattern)):
        raise PatternError("\\C (one byte) is not supported")
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.never_capture = True
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    try:
        return Pattern(re2.compile(_encode(pattern), options))
    except re2.error as error:
        raise PatternError(_reason(error)) from error


def _encode(text: str) -> bytes:
    """UTF-8. RE2 refuses lone surrogates, which JSON can hold, in a pattern; in a text they match `.`."""
    return text.encode("utf-8", "surrogatepass")


def _reason(error: Exception) -> str:
    """RE2's own message, which its binding passes as bytes."""
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
