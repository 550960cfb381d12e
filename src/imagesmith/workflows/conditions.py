"""The `if` of a step: which operators exist, and how a comparison is answered (spec/workflows.md 4).

`value` is the left side, what stands at the operator the right side: `{numberGreaterThan: 5, value: 7}` is true.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from imagesmith.documents.conditions import (
    Comparison,
    Expression,
    OperandKey,
    compare_numbers,
    compare_strings,
    comparisons,
    evaluate,
    number_of,
    parse_condition,
)
from imagesmith.documents.fields import boolean_of
from imagesmith.documents.nodes import ListNode, MapNode, Node, kind_of
from imagesmith.values.diagnostics import Problem
from imagesmith.workflows.inputs import text_of
from imagesmith.workflows.paths import is_dynamic

OPERATORS: Final = (
    "stringEquals",
    "booleanEquals",
    "numberEquals",
    "numberLessThan",
    "numberLessThanEquals",
    "numberGreaterThan",
    "numberGreaterThanEquals",
)
_OPERATORS: Final[MappingProxyType[str, OperandKey]] = MappingProxyType(dict.fromkeys(OPERATORS, "value"))
_MAX_DEPTH: Final = 3
"""Of 'and', 'or', 'not': the comparison below them stands on level 4, the deepest (4.4)."""
MAX_OPERANDS: Final = 10

Resolve = Callable[[str], Any]
"""The value of an operand: a path's own, or the text itself."""


class ConditionError(ValueError):
    """An operand that its operator cannot compare; the step fails (4.2)."""


def parse_if(node: Node, problems: list[Problem], subject: str) -> Expression | None:
    """Read the `if` of a step: one statement, bare or as the only element of a list (4.1)."""
    statement = node.items[0] if isinstance(node, ListNode) and len(node.items) == 1 else node
    if not isinstance(statement, MapNode):
        message = f"{subject}: 'if' needs one condition, a mapping; it is {kind_of(statement)}"
        hint = "combine conditions with 'and' or 'or'" if isinstance(statement, ListNode) else ""
        problems.append(Problem("condition-shape", message, node.position, hint))
        return None
    expression = parse_condition(
        statement, problems,
        operators=_OPERATORS, subject=f"{subject}: if", max_depth=_MAX_DEPTH, max_operands=MAX_OPERANDS,
    )  # fmt: skip
    for comparison in comparisons(expression) if expression is not None else ():
        _check_literals(comparison, problems, subject)
    return expression


def is_true(expression: Expression, resolve: Resolve) -> bool:
    """The truth of a condition. Raises ConditionError, and what `resolve` raises for an operand that is needed."""
    return evaluate(expression, lambda comparison: _compare(comparison, resolve))


def operands(comparison: Comparison) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """Both operands, the right side first: text, and whether it was written without quotes."""
    return (comparison.baseline, comparison.plain_baseline), (comparison.value or "", comparison.plain_value)


def _compare(comparison: Comparison, resolve: Resolve) -> bool:
    operator = comparison.operator
    right, left = (
        (resolve(text) if is_dynamic(text, "chained") else _literal(text, plain), plain)
        for text, plain in operands(comparison)
    )
    if operator == "stringEquals":
        return compare_strings(operator, text_of(right[0]), text_of(left[0]))
    if operator == "booleanEquals":
        return _boolean(left[0], operator) == _boolean(right[0], operator)
    return compare_numbers(operator, _number(*right, operator), _number(*left, operator))


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
    """A literal that can never be compared is told before the run, as a warning: the run fails the step (4.5)."""
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
