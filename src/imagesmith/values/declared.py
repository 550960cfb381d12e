"""Rules for members of settings tables, declared beside their types and checked in one place.

    concurrency: Annotated[int, Range(1, 1024, "builds")] = 2
    url: Annotated[str, Text(r"https?://.+", "http://HOST or https://HOST", optional=True)] = ""
    overlap: Literal["allow", "skip"] = "allow"

Hand-written checks were missing for nine members of ten; a test requires a declaration of every member. Pydantic
does the same for 0.9 s of the start (0.2 s without its settings).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from imagesmith.values.visible import visible

_SHOWN: int = 100


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; with `above` more than `low`."""

    low: float
    high: float
    unit: str = ""
    above: bool = False

    def admits(self, value: float) -> bool:
        return (
            math.isfinite(value) and (self.low < value if self.above else self.low <= value) and value <= self.high
        )

    def __str__(self) -> str:
        low = f"more than {self.low}" if self.above else f"{self.low} or more"
        return f"{low}{f' {self.unit}' if self.unit else ''}, up to {self.high}"


@dataclass(frozen=True)
class Text:
    """A printable text of one line, without blanks around it, that matches a pattern as a whole.

    `optional`: or is empty.
    """

    pattern: str
    expected: str
    optional: bool = False

    def admits(self, value: str) -> bool:
        if not value:
            return self.optional
        plain = value == visible(value) == value.strip() and not _CONTROL.search(value)
        return plain and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"{self.expected}, or nothing" if self.optional else self.expected


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S*@")


@dataclass(frozen=True)
class Keys:
    """The rule for the keys of a table of tables."""

    text: Text


Rule = Range | Text | Keys


def rule_of(hint: Any) -> Rule | None:
    """The rule in a type hint, if it has one."""
    return next((item for item in getattr(hint, "__metadata__", ()) if isinstance(item, Rule)), None)


def plain_type(hint: Any) -> Any:
    """A type hint without its rule."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def problem(hint: Any, value: Any) -> str:
    """Why a member does not allow a value of the right type: `0, expected 1 or more, up to 9`; or an empty text."""
    kind, rule = plain_type(hint), rule_of(hint)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return "" if value in choices else f"{_format(value)}, expected {_format_choices(choices)}"
    if isinstance(rule, Range) and not rule.admits(value):
        return f"{_format(value)}, expected {rule}"
    if isinstance(rule, Text):
        wrong = [item for item in (value if isinstance(value, tuple) else (value,)) if not rule.admits(item)]
        return f"{_format(wrong[0])}, expected {rule}" if wrong else ""
    return ""


def _format(value: Any) -> str:
    text = _PASSWORD.sub(r"\1***@", repr(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _format_choices(choices: tuple[str, ...]) -> str:
    *others, last = (repr(choice) for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last
