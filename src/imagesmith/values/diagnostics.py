"""Problems in what a user wrote: data, not exceptions.

A document check returns every problem it found; the command line prints them with their lines, the API folds
them into its one error (style.md section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Position:
    """A place in a text; both numbers count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and what to try."""

    code: str
    message: str
    position: Position | None = None
    hint: str = ""
    severity: Severity = "error"

    def render(self, source: str) -> str:
        """Give `file:line:column code message hint` as one line."""
        place = f":{self.position.line}:{self.position.column}" if self.position else ""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{source}{place} {self.code} {self.message}{hint}"


def errors_of(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems that make a document unusable, in order of their position."""
    failing = [problem for problem in problems if problem.severity == "error"]
    return tuple(sorted(failing, key=lambda problem: problem.position or Position(0, 0)))
