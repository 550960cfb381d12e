"""What parsing a component document returns, and its problems as the one sentence of CreateComponent."""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith.components.model import ComponentDocument
from imagesmith.values.diagnostics import Problem, errors_of


@dataclass(frozen=True)
class Parsed:
    """`document` is None when a problem is an error; `problems` holds warnings too, in order of position."""

    document: ComponentDocument | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return errors_of(self.problems)


def folded_message(problems: tuple[Problem, ...] | list[Problem]) -> str:
    """All errors as the one sentence of CreateComponent; the first three are complete, with their lines."""
    errors = errors_of(problems)
    listed = "; ".join(
        (f"line {problem.position.line}: " if problem.position else "") + problem.one_line for problem in errors[:3]
    )
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    return f"Failed to parse document. Error: {listed}{more}"
