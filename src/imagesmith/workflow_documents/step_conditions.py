"""The `if` of a step: the operators and the evaluation of comparisons (spec/workflows.md 4).

`value` is the left operand, the operator's value the right one: `{numberGreaterThan: 5, value: 7}` is true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from imagesmith.documents.comparisons import NUMBER_OPERATORS, ComparisonEvaluator, number_of
from imagesmith.documents.conditions import Comparison, Expression, OperandKey, parse_condition
from imagesmith.documents.fields import boolean_of
from imagesmith.documents.nodes import ListNode, MapNode, Node, kind_of
from imagesmith.values.diagnostics import Problem
from imagesmith.workflow_documents.inputs import text_of
from imagesmith.workflow_documents.paths import is_dynamic

OPERATORS: Final = ("stringEquals", "booleanEquals", *NUMBER_OPERATORS)
_OPERATORS: Final[MappingProxyType[str, OperandKey]] = MappingProxyType(dict.fromkeys(OPERATORS, "value"))
_MAX_DEPTH: Final = 3
"""Of 'and', 'or', 'not': the comparison below them is on level 4, the deepest (spec/workflows.md 4.4)."""
MAX_OPERANDS: Final = 10

Resolve = Callable[[str], Any]
"""The value of an operand: a path's own, or the text itself."""


class ConditionError(ValueError):
    """An operand that its operator cannot compare; the step fails (spec/workflows.md 4.2)."""


def parse_if(node: Node, problems: list[Problem], subject: str) -> Expression | None:
    """Read the `if` of a step: one statement, bare or as the only element of a list (spec/workflows.md 4.1)."""
    statement = node.items[0] if isinstance(node, ListNode) and len(node.items) == 1 else node
    if not isinstance(statement, MapNode):
        message = f"{subject}: 'if' needs one condition, a mapping, not {kind_of(statement)}"
        hint = "combine conditions with 'and' or 'or'" if isinstance(statement, ListNode) else ""
        problems.append(Problem("condition-shape", message, node.position, hint))
        return None
    return parse_condition(
        statement, problems,
        operators=_OPERATORS, subject=f"{subject}: if", max_depth=_MAX_DEPTH, max_operands=MAX_OPERANDS,
        check=lambda comparison: _check_literals(comparison, problems, subject),
    )  # fmt: skip


def is_true(expression: Expression, resolve: Resolve) -> bool:
    """The truth of a condition. Raises ConditionError, and the exceptions of `resolve` for a needed operand."""

    def resolved(text: str, plain: bool) -> _TypedOperand:
        return _TypedOperand(resolve(text) if is_dynamic(text, "chained") else _literal(text, plain), plain)

    return ComparisonEvaluator[_TypedOperand](
        resolve=resolved,
        text=lambda operand: text_of(operand.value),
        number=lambda operand, operator: _number(operand.value, operand.plain, operator),
        own={
            "booleanEquals": lambda right, left: (
                _boolean(left.value, "booleanEquals") == _boolean(right.value, "booleanEquals")
            )
        },
    ).is_true(expression)


@dataclass(frozen=True)
class _TypedOperand:
    """An operand of a comparison, with the type of its value."""

    value: Any
    plain: bool
    """Written without quotes."""


def operands(comparison: Comparison) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """Both operands, the right side first: text, and whether it was written without quotes."""
    return (comparison.baseline, comparison.plain_baseline), (comparison.value or "", comparison.plain_value)


def _literal(text: str, plain: bool) -> str | bool:
    """A literal of the document: `True` without quotes is the boolean, whose text is `true`."""
    truth = boolean_of(text) if plain else None
    return text if truth is None else truth


def _boolean(value: Any, operator: str) -> bool:
    truth = boolean_of(value) if isinstance(value, str) else value
    if not isinstance(truth, bool):
        raise ConditionError(f"'{operator}' needs true or false, an operand is '{text_of(value)[:80]}'")
    return truth


def _number(value: Any, plain: bool, operator: str) -> Decimal:
    number: Decimal | None = None
    if isinstance(value, str):
        number = number_of(value, plain=plain)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(str(value))
    if number is None or not number.is_finite():
        raise ConditionError(f"'{operator}' needs a number, an operand is '{text_of(value)[:80]}'")
    return number


def _check_literals(comparison: Comparison, problems: list[Problem], subject: str) -> None:
    """Warn before the run about a literal that can never be compared: the run fails the step
    (spec/workflows.md 4.5)."""
    for text, plain in operands(comparison):
        if is_dynamic(text, "chained") or comparison.operator == "stringEquals":
            continue
        try:
            if comparison.operator == "booleanEquals":
                _boolean(_literal(text, plain), comparison.operator)
            else:
                _number(text, plain, comparison.operator)
        except ConditionError as error:
            message = f"{subject}: if: {error}; the step will fail"
            problems.append(Problem("condition-operand", message, comparison.position, severity="warning"))
