"""Conditions of component documents: the operators and their evaluation (spec/components.md 5, 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from imagesmith.components.model import Guard, GuardAction
from imagesmith.documents.comparisons import (
    NUMBER_OPERATORS,
    STRING_OPERATORS,
    ComparisonEvaluator,
    compare_strings,
    number_of,
)
from imagesmith.documents.conditions import Comparison, Expression, OperandKey, parse_condition
from imagesmith.documents.fields import Fields
from imagesmith.documents.nodes import MapNode, Node, kind_of
from imagesmith.documents.patterns import PatternError, compile_pattern
from imagesmith.documents.references import find_references
from imagesmith.values.diagnostics import Problem

HASHES: Final = MappingProxyType(
    {"fileMD5Equals": "md5", "fileSHA1Equals": "sha1", "fileSHA256Equals": "sha256", "fileSHA512Equals": "sha512"}
)
_SINGLE: Final = ("stringIsEmpty", "stringIsWhitespace", "binaryExists", "fileExists", "folderExists")
_OPERATORS: Final[MappingProxyType[str, OperandKey]] = MappingProxyType(
    {
        **dict.fromkeys(_SINGLE, ""),
        **dict.fromkeys((*STRING_OPERATORS, *NUMBER_OPERATORS), "value"),
        **dict.fromkeys(HASHES, "path"),
    }
)
_ACTIONS: Final = ("Execute", "Skip", "Abort")


class Probe(Protocol):
    """The queries of conditions to the instance."""

    def binary_exists(self, name: str) -> bool: ...

    def file_exists(self, path: str) -> bool: ...

    def folder_exists(self, path: str) -> bool: ...

    def file_digest(self, path: str, algorithm: str) -> str | None:
        """The hex digest of a file; None when it cannot be read."""
        ...


class ComponentConditionError(ValueError):
    """A condition that cannot be evaluated, such as a pattern that is invalid after its resolution."""


def parse_expression(
    node: MapNode, problems: list[Problem], *, subject: str, siblings: tuple[str, ...] = ()
) -> Expression | None:
    """Read an expression and check its literals; `siblings` are allowed beside the operator."""
    return parse_condition(
        node, problems, operators=_OPERATORS, subject=subject, siblings=siblings,
        check=lambda comparison: _check_literals(comparison, problems, subject),
    )  # fmt: skip


def parse_guard(node: Node, problems: list[Problem], subject: str) -> Guard | None:
    """Read the `if` of a step."""
    if not isinstance(node, MapNode):
        problems.append(
            Problem(
                "wrong-type",
                f"{subject} 'if' must be a mapping, not {kind_of(node)}",
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
    """The truth of an expression on an instance.

    Raises ComponentConditionError, exceptions of `resolve` and `probe`.
    """
    return ComparisonEvaluator[_Operand](
        resolve=lambda text, plain: _Operand(resolve(text), plain),
        text=lambda operand: operand.text,
        number=lambda operand, _: number_of(operand.text, plain=operand.plain),
        own=_own_operators(probe),
    ).is_true(expression)


@dataclass(frozen=True)
class _Operand:
    """An operand of a comparison, after its references were replaced."""

    text: str
    plain: bool
    """Written without quotes."""


def _own_operators(probe: Probe) -> Mapping[str, Callable[[_Operand, _Operand], bool]]:
    def has_digest(algorithm: str) -> Callable[[_Operand, _Operand], bool]:
        return lambda digest, path: probe.file_digest(path.text, algorithm) == digest.text.lower()

    return {
        "patternMatches": _matches,
        "stringIsEmpty": lambda text, _: text.text == "",
        "stringIsWhitespace": lambda text, _: text.text != "" and text.text.isspace(),
        "binaryExists": lambda name, _: probe.binary_exists(name.text),
        "fileExists": lambda path, _: probe.file_exists(path.text),
        "folderExists": lambda path, _: probe.folder_exists(path.text),
        **{operator: has_digest(algorithm) for operator, algorithm in HASHES.items()},
    }


def _matches(pattern: _Operand, value: _Operand) -> bool:
    try:
        return compare_strings("patternMatches", pattern.text, value.text)
    except PatternError as error:
        raise ComponentConditionError(f"the pattern '{pattern.text[:200]}' cannot be matched: {error}") from error


def _check_literals(comparison: Comparison, problems: list[Problem], subject: str) -> None:
    baseline = comparison.baseline
    if next(find_references(baseline), None) is not None:
        return
    if comparison.operator in NUMBER_OPERATORS and number_of(baseline, plain=comparison.plain_baseline) is None:
        message = f"{subject}: '{baseline[:80]}' is not a number, which '{comparison.operator}' needs"
        problems.append(Problem("condition-number", message, comparison.position))
    if comparison.operator == "patternMatches":
        try:
            compile_pattern(baseline, ignore_case=True)
        except PatternError as error:
            message = f"{subject}: the pattern '{baseline[:80]}' is not valid: {error}"
            problems.append(
                Problem("condition-pattern", message, comparison.position, "patterns have RE2's syntax")
            )


def _action(name: str) -> GuardAction:
    return "Skip" if name == "Skip" else "Abort" if name == "Abort" else "Execute"
