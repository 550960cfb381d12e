"""The operators of conditions on strings and numbers, and the evaluation of the comparisons of a document language.

resolve both operands --> an operator of the language: files, binaries, booleans
                     \\--> numbers: exact decimals      \\--> strings: equality, order, RE2 patterns
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Generic, TypeVar

from imagesmith.documents.conditions import Comparison, Expression, evaluate
from imagesmith.documents.patterns import compile_pattern

STRING_OPERATORS: Final = (
    "stringEquals",
    "stringLessThan",
    "stringlessThan",
    "stringLessThanEquals",
    "stringGreaterThan",
    "stringGreaterThanEquals",
    "patternMatches",
)
NUMBER_OPERATORS: Final = (
    "numberEquals",
    "numberLessThan",
    "numberLessThanEquals",
    "numberGreaterThan",
    "numberGreaterThanEquals",
)
_NUMBER: Final = re.compile(r"[-+]?([0-9]+[.])?[0-9]+\Z")
_FLOAT: Final = re.compile(r"[-+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][-+]?[0-9]{1,3})?\Z")
_MAX_NUMBER: Final = 1000

Operand = TypeVar("Operand")


@dataclass(frozen=True, kw_only=True)
class ComparisonEvaluator(Generic[Operand]):
    """Evaluates the comparisons of one document language."""

    resolve: Callable[[str, bool], Operand]
    """(text of an operand, whether it was written without quotes) -> operand."""
    text: Callable[[Operand], str]
    number: Callable[[Operand, str], Decimal | None]
    """(operand, operator) -> its number, or None: then the comparison is false."""
    own: Mapping[str, Callable[[Operand, Operand], bool]]
    """The operators of the language itself: (baseline, value) -> result."""

    def is_true(self, expression: Expression) -> bool:
        """The truth of an expression. Raises PatternError, and the errors of the functions of the language."""
        return evaluate(expression, self._compare)

    def _compare(self, comparison: Comparison) -> bool:
        operator = comparison.operator
        # both before any conversion: an operand that cannot be resolved is the first error
        baseline = self.resolve(comparison.baseline, comparison.plain_baseline)
        value = baseline if comparison.value is None else self.resolve(comparison.value, comparison.plain_value)
        if operator in self.own:
            return self.own[operator](baseline, value)
        if operator in NUMBER_OPERATORS:
            return _compare_numbers(operator, self.number(baseline, operator), self.number(value, operator))
        return compare_strings(operator, self.text(baseline), self.text(value))


def compare_strings(operator: str, baseline: str, value: str) -> bool:
    """The string operators with two operands: is `value` <op> `baseline`? (spec/components.md 6.2)

    Equality is exact, order compares case-folded code points, patterns ignore case (spec/components.md 6.5).
    Raises PatternError for a pattern that RE2 does not accept.
    """
    if operator == "stringEquals":
        return value == baseline
    if operator == "patternMatches":
        return compile_pattern(baseline, ignore_case=True).found_in(value)
    return _compare_order(operator.removeprefix("string"), value.casefold(), baseline.casefold())


def _compare_numbers(operator: str, baseline: Decimal | None, value: Decimal | None) -> bool:
    """The number operators: is `value` <op> `baseline`? False unless both are numbers (spec/components.md 6.3)."""
    if value is None or baseline is None:
        return False
    if operator == "numberEquals":
        return value == baseline
    return _compare_order(operator.removeprefix("number"), value, baseline)


def number_of(text: str, *, plain: bool = False) -> Decimal | None:
    """The exact number of a text, or None. An unquoted scalar may also use the float forms of YAML, as `1e3`."""
    if len(text) > _MAX_NUMBER:
        return None
    if _NUMBER.match(text) or (plain and _FLOAT.match(text)):
        return Decimal(text)
    return None


def _compare_order(order: str, left: str | Decimal, right: str | Decimal) -> bool:
    results: dict[str, Callable[[], bool]] = {
        "LessThan": lambda: left < right,  # type: ignore[operator]
        "lessThan": lambda: left < right,  # type: ignore[operator]
        "LessThanEquals": lambda: left <= right,  # type: ignore[operator]
        "GreaterThan": lambda: left > right,  # type: ignore[operator]
        "GreaterThanEquals": lambda: left >= right,  # type: ignore[operator]
    }
    return results[order]()
