"""Conditions of component documents: which operators exist, and how each is answered (spec/components.md 5, 6)."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final, Protocol

from imagesmith.components.model import Guard, GuardAction
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
    string_is_empty,
    string_is_whitespace,
)
from imagesmith.documents.fields import Fields
from imagesmith.documents.nodes import MapNode, Node, kind_of
from imagesmith.documents.patterns import PatternError, compile_pattern
from imagesmith.documents.references import find_references
from imagesmith.values.diagnostics import Problem

_STRINGS: Final = (
    "stringEquals",
    "stringLessThan",
    "stringlessThan",
    "stringLessThanEquals",
    "stringGreaterThan",
    "stringGreaterThanEquals",
    "patternMatches",
)
_NUMBERS: Final = (
    "numberEquals",
    "numberLessThan",
    "numberLessThanEquals",
    "numberGreaterThan",
    "numberGreaterThanEquals",
)
HASHES: Final = MappingProxyType(
    {"fileMD5Equals": "md5", "fileSHA1Equals": "sha1", "fileSHA256Equals": "sha256", "fileSHA512Equals": "sha512"}
)
_SINGLE: Final = ("stringIsEmpty", "stringIsWhitespace", "binaryExists", "fileExists", "folderExists")
_OPERATORS: Final[MappingProxyType[str, OperandKey]] = MappingProxyType(
    {
        **dict.fromkeys(_SINGLE, ""),
        **dict.fromkeys((*_STRINGS, *_NUMBERS), "value"),
        **dict.fromkeys(HASHES, "path"),
    }
)
_ACTIONS: Final = ("Execute", "Skip", "Abort")


class Probe(Protocol):
    """What conditions ask of the instance."""

    def binary_exists(self, name: str) -> bool: ...

    def file_exists(self, path: str) -> bool: ...

    def folder_exists(self, path: str) -> bool: ...

    def file_digest(self, path: str, algorithm: str) -> str | None:
        """The hex digest of a file; None when it cannot be read."""
        ...


class ConditionError(ValueError):
    """A condition that cannot be answered, such as a pattern that is none once it is resolved."""


def parse_expression(
    node: MapNode, problems: list[Problem], *, subject: str, siblings: tuple[str, ...] = ()
) -> Expression | None:
    """Read an expression and check its literals; `siblings` may stand beside the operator."""
    expression = parse_condition(node, problems, operators=_OPERATORS, subject=subject, siblings=siblings)
    if expression is not None:
        for comparison in comparisons(expression):
            _check_literals(comparison, problems, subject)
    return expression


def parse_guard(node: Node, problems: list[Problem], subject: str) -> Guard | None:
    """Read the `if` of a step."""
    if not isinstance(node, MapNode):
        problems.append(
            Problem(
                "wrong-type",
                f"{subject} 'if' must be a mapping, it is {kind_of(node)}",
                node.position,
                "write the operator without a dash",
            )
        )
        return None
    fields = Fields(node, problems, f"{subject} if")
    then = fields.choice("then", _ACTIONS, default="Execute")
    otherwise = fields.choice("else", _ACTIONS, default="Skip")
    expression = parse_expression(node, problems, subject=f"{subject} if", siblings=("then", "else"))
    return None if expression is None else Guard(expression, _action(then), _action(otherwise), node.position)


def is_true(expression: Expression, resolve: Callable[[str], str], probe: Probe) -> bool:
    """The truth of an expression on an instance. Raises ConditionError, and what `resolve` and `probe` raise."""
    return evaluate(expression, lambda comparison: _compare(comparison, resolve, probe))


def _compare(comparison: Comparison, resolve: Callable[[str], str], probe: Probe) -> bool:
    operator = comparison.operator
    baseline = resolve(comparison.baseline)
    value = "" if comparison.value is None else resolve(comparison.value)
    if operator in _NUMBERS:
        left = number_of(value, plain=comparison.plain_value)
        right = number_of(baseline, plain=comparison.plain_baseline)
        return compare_numbers(operator, right, left)
    if operator in HASHES:
        return probe.file_digest(value, HASHES[operator]) == baseline.lower()
    if operator in _STRINGS:
        try:
            return compare_strings(operator, baseline, value)
        except PatternError as error:
            raise ConditionError(f"the pattern '{baseline[:200]}' cannot be matched: {error}") from error
    single: dict[str, Callable[[str], bool]] = {
        "stringIsEmpty": string_is_empty,
        "stringIsWhitespace": string_is_whitespace,
        "binaryExists": probe.binary_exists,
        "fileExists": probe.file_exists,
        "folderExists": probe.folder_exists,
    }
    return single[operator](baseline)


def _check_literals(comparison: Comparison, problems: list[Problem], subject: str) -> None:
    baseline = comparison.baseline
    if next(find_references(baseline), None) is not None:
        return
    if comparison.operator in _NUMBERS and number_of(baseline, plain=comparison.plain_baseline) is None:
        message = f"{subject}: '{baseline[:80]}' is no number, '{comparison.operator}' needs one"
        problems.append(Problem("condition-number", message, comparison.position))
    if comparison.operator == "patternMatches":
        try:
            compile_pattern(baseline, ignore_case=True)
        except PatternError as error:
            message = f"{subject}: the pattern '{baseline[:80]}' is not valid: {error}"
            problems.append(Problem("condition-pattern", message, comparison.position, "patterns are RE2's"))


def _action(name: str) -> GuardAction:
    return "Skip" if name == "Skip" else "Abort" if name == "Abort" else "Execute"
