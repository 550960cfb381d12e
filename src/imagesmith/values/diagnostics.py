"""Problems in a user's document: data, not exceptions.

A check returns all problems, because an author wants to correct them together; an exception would end at the
first. The command line prints them with their lines, the API joins them in one error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Position:
    """A position in a text; both numbers count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One problem: what is wrong, its position, and a hint."""

    code: str
    message: str
    position: Position | None = None
    hint: str = ""
    severity: Severity = "error"

    def render(self, source: str) -> str:
        """Return `file:line:column code message hint` as one line; `warning:` precedes the code of a warning."""
        position = f":{self.position.line}:{self.position.column}" if self.position else ""
        mark = "warning: " if self.severity == "warning" else ""
        return f"{source}{position} {mark}{self.code} {self.one_line}"

    @property
    def one_line(self) -> str:
        """The message on one line, with the hint."""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{self.message}{hint}".replace("\n", " ")


def errors_of(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems that make a document unusable, in order of their position."""
    failing = [problem for problem in problems if problem.severity == "error"]
    return tuple(sorted(failing, key=lambda problem: problem.position or Position(0, 0)))
