"""The truth vectors of the specification, and the shape of conditions (spec/components.md 6.6)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.components.operators import is_true, parse_expression
from imagesmith.documents.nodes import MapNode
from imagesmith.documents.yaml import load_yaml
from imagesmith.values.diagnostics import Problem


class NoFiles:
    """Answers no to everything, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def binary_exists(self, name: str) -> bool:
        self.asked.append(name)
        return False

    def file_exists(self, path: str) -> bool:
        self.asked.append(path)
        return False

    def folder_exists(self, path: str) -> bool:
        self.asked.append(path)
        return False

    def file_digest(self, path: str, algorithm: str) -> str | None:
        return {"md5": "abc"}.get(algorithm)


def check(text: str) -> list[Problem]:
    node = load_yaml(text).root
    assert isinstance(node, MapNode)
    problems: list[Problem] = []
    parse_expression(node, problems, subject="here")
    return problems


def truth(text: str, probe: NoFiles | None = None) -> bool:
    node = load_yaml(text).root
    assert isinstance(node, MapNode)
    problems: list[Problem] = []
    expression = parse_expression(node, problems, subject="here")
    assert expression is not None and not problems, problems
    return is_true(expression, lambda value: value, probe or NoFiles())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('stringIsEmpty: ""', True),
        ('stringIsEmpty: " "', False),
        ("stringIsEmpty:", True),
        ('stringIsWhitespace: "   "', True),
        ('stringIsWhitespace: ""', False),
        ('stringIsWhitespace: " x"', False),
        ("{stringEquals: 'T', value: '  T'}", False),
        ("{stringEquals: 'T', value: 'T  '}", False),
        ("{stringEquals: 'T', value: 't'}", False),
        ("{stringEquals: 1.0, value: '1.0'}", True),
        ("{stringLessThan: 'b', value: 'a'}", True),
        ("{stringlessThan: 'b', value: 'a'}", True),
        ("{stringLessThan: 'a', value: '0'}", True),
        ("{stringLessThan: '0', value: 'a'}", False),
        ("{stringLessThanEquals: 'A', value: 'a'}", True),
        ("{stringGreaterThan: 'a', value: 'A'}", False),
        ("{stringGreaterThan: '0', value: 'a'}", True),
        ("{stringGreaterThanEquals: 'a', value: '0'}", False),
        ("{patternMatches: '^[0-9]+$', value: '1234567890'}", True),
        ("{patternMatches: '^[a-z]+$', value: 'ThisIsValue'}", True),
        ("{patternMatches: 'b$', value: \"b\\n\"}", False),
        ("{numberEquals: '1', value: 1}", True),
        ("{numberEquals: 1, value: '1'}", True),
        ("{numberEquals: 1, value: '1.0'}", True),
        ("{numberEquals: 1e3, value: 1000}", True),
        ("{numberEquals: 1000, value: '1e3'}", False),
        ("{numberEquals: 1, value: ' 1'}", False),
        ("{numberEquals: 0.1, value: '0.1000000000000000055511151231257827'}", False),
        ("{numberLessThan: 2, value: 1.9}", True),
        ("{numberLessThan: 2, value: '2'}", False),
        ("{numberLessThanEquals: 2, value: 2.1}", False),
        ("{numberGreaterThan: 1, value: '1'}", False),
        ("{numberGreaterThanEquals: 1, value: 0.8}", False),
        ("{numberEquals: 1, value: 'a10'}", False),
        ("{fileMD5Equals: ABC, path: x}", True),
        ("{fileSHA256Equals: abc, path: x}", False),
        ("{value: 'a', stringEquals: 'a'}", True),
        ("not: {stringIsEmpty: ''}", False),
        ("not: [{stringIsEmpty: ''}]", False),
        ("and: [{stringIsEmpty: ''}, {stringIsEmpty: x}]", False),
        ("or: [{stringIsEmpty: x}, {stringIsEmpty: ''}]", True),
        ("and: [{stringIsEmpty: ''}]", True),
    ],
)
def test_truth_vectors(expression: str, expected: bool) -> None:
    """Each published expression has its published result."""
    assert truth(expression) is expected


def test_evaluation_stops_early() -> None:
    """What cannot change the result is never asked."""
    probe = NoFiles()
    assert truth("or: [{not: {fileExists: a}}, {fileExists: b}]", probe)
    assert not truth("and: [{binaryExists: c}, {folderExists: d}]", probe)
    assert probe.asked == ["a", "c"]


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("{}", "condition-operator"),
        ("{stringEquals: a, numberEquals: 1, value: 1}", "condition-operator"),
        ("stringEqual: a", "condition-operator"),
        ("stringEquals: a", "condition-operand"),
        ("{fileMD5Equals: a, value: b}", "condition-key"),
        ("{stringIsEmpty: a, value: b}", "condition-key"),
        ("{stringEquals: a, value: b, then: Skip}", "condition-key"),
        ("{stringEquals: [a], value: b}", "condition-operand"),
        ("{numberEquals: a10, value: 1}", "condition-number"),
        ("{patternMatches: '(?=a)', value: b}", "condition-pattern"),
        ("{patternMatches: '(a)\\1', value: b}", "condition-pattern"),
        ("and: []", "condition-shape"),
        ("and: {stringIsEmpty: a}", "condition-shape"),
        ("not: [{stringIsEmpty: a}, {stringIsEmpty: b}]", "condition-shape"),
        ("and: [text]", "condition-shape"),
        ("not: {not: {not: {not: {not: {stringIsEmpty: a}}}}}", "condition-depth"),
    ],
)
def test_wrong_conditions(expression: str, code: str) -> None:
    """Each wrong condition is named with its code and place."""
    problems = check(expression)
    assert code in [problem.code for problem in problems]
    assert all(problem.position is not None for problem in problems)


def test_four_levels_are_allowed() -> None:
    """Four logical levels with a comparison below them are accepted."""
    assert truth("not: {not: {not: {not: {stringIsEmpty: ''}}}}")


NUMBERS = st.integers(-3, 3).map(str) | st.sampled_from(["0.5", "-0.50", "+2", "02", "1e0", "x", "", " 1", "٣"])
STRINGS = st.text("aAbB0 \n", max_size=2)
ORDERS = {"LessThan": "<", "LessThanEquals": "<=", "GreaterThan": ">", "GreaterThanEquals": ">="}


def ordered(order: str, left: Any, right: Any) -> bool:
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[ORDERS[order]])


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    """A comparison and its truth as the tables of the specification say it."""
    order = draw(st.sampled_from(sorted(ORDERS)))
    if draw(st.booleans()):
        baseline, value = draw(STRINGS), draw(STRINGS)
        if draw(st.booleans()):
            return {"stringEquals": baseline, "value": value}, baseline == value
        return {f"string{order}": baseline, "value": value}, ordered(order, value.lower(), baseline.lower())
    baseline, value = str(draw(st.integers(-3, 3))), draw(NUMBERS)
    if value in ("1e0", "x", "", " 1", "٣"):
        return {f"number{order}": baseline, "value": value}, False
    return {f"number{order}": baseline, "value": value}, ordered(order, Decimal(value), Decimal(baseline))


def logical(operands: Any) -> Any:
    """Expressions over others, one level deeper."""
    return st.tuples(st.sampled_from(["and", "or", "not"]), st.lists(operands, min_size=1, max_size=3)).map(
        _combined
    )


def _combined(drawn: tuple[str, list[tuple[dict[str, Any], bool]]]) -> tuple[dict[str, Any], bool]:
    operator, operands = drawn
    if operator == "not":
        return {"not": operands[0][0]}, not operands[0][1]
    truths = [truth for _, truth in operands]
    return {operator: [expression for expression, _ in operands]}, all(truths) if operator == "and" else any(truths)


EXPRESSIONS = comparisons()
for _ in range(4):
    EXPRESSIONS = comparisons() | logical(EXPRESSIONS)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS)
def test_any_expression_means_what_the_tables_say(drawn: tuple[dict[str, Any], bool]) -> None:
    """Whatever is nested in whatever, the result is that of the operators' own definitions."""
    expression, expected = drawn
    assert truth(json.dumps(expression)) is expected
