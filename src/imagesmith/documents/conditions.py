"""Conditions: their shape, and the evaluation of and, or and not, as pure functions (spec/components.md 6).

    and / or / not          --> Logical      evaluated left to right, stopping as soon as the result is known
    anything else           --> Comparison   the operator key holds the baseline, `value` or `path` the operand

Each document language defines its operators; documents/comparisons.py evaluates them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from imagesmith.documents.fields import suggestion
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, kind_of
from imagesmith.values.diagnostics import Position, Problem

MAX_LOGICAL_DEPTH: Final = 4
LOGICAL: Final = ("and", "or", "not")

OperandKey = Literal["", "value", "path"]
"""The key of an operator's second operand; empty: it has one operand only."""


@dataclass(frozen=True)
class Comparison:
    """One comparison. `value` is None for operators with one operand. `plain` marks unquoted scalars."""

    operator: str
    baseline: str
    value: str | None
    position: Position
    plain_baseline: bool = False
    plain_value: bool = False


@dataclass(frozen=True)
class Logical:
    """`and`, `or` or `not` over conditions."""

    operator: str
    operands: tuple[Expression, ...]
    position: Position


Expression: TypeAlias = Comparison | Logical


def parse_condition(
    node: MapNode,
    problems: list[Problem],
    *,
    operators: Mapping[str, OperandKey],
    subject: str,
    siblings: Sequence[str] = (),
    max_depth: int = MAX_LOGICAL_DEPTH,
    max_operands: int | None = None,
    check: Callable[[Comparison], None] = lambda _: None,
) -> Expression | None:
    """Read one expression. `siblings` are the keys allowed beside the outermost operator.

    `max_depth` bounds the nesting of 'and', 'or' and 'not', `max_operands` the number of operands of each.
    `check` is called for each comparison of a valid expression.
    """
    expression = _ConditionReader(
        operators=operators, problems=problems, subject=subject, max_depth=max_depth, max_operands=max_operands
    ).expression(node, tuple(siblings), 1)
    for comparison in comparisons(expression) if expression is not None else ():
        check(comparison)
    return expression


def comparisons(expression: Expression) -> list[Comparison]:
    """Every comparison of an expression, in order."""
    if isinstance(expression, Comparison):
        return [expression]
    return [found for operand in expression.operands for found in comparisons(operand)]


def evaluate(expression: Expression, compare: Callable[[Comparison], bool]) -> bool:
    """The truth of an expression; `compare` is called only when the result depends on it."""
    if isinstance(expression, Comparison):
        return compare(expression)
    if expression.operator == "and":
        return all(evaluate(operand, compare) for operand in expression.operands)
    if expression.operator == "or":
        return any(evaluate(operand, compare) for operand in expression.operands)
    return not evaluate(expression.operands[0], compare)


@dataclass
class _ConditionReader:
    """Reads a condition within its limits and collects its problems."""

    operators: Mapping[str, OperandKey]
    problems: list[Problem]
    subject: str
    max_depth: int
    max_operands: int | None

    def expression(self, node: Node, siblings: tuple[str, ...], depth: int) -> Expression | None:
        if not isinstance(node, MapNode):
            self._problem("condition-shape", f"a condition must be a mapping, not {kind_of(node)}", node.position)
            return None
        known = {*self.operators, *LOGICAL}
        found = [key for key, _ in node.entries if key.text in known]
        if len(found) != 1:
            self._problem(
                "condition-operator",
                f"a condition needs exactly one operator, not {len(found)}",
                found[1].position if found else node.position,
                self._operator_hint(node, siblings) if not found else "combine conditions with 'and' or 'or'",
            )
            return None
        operator = found[0]
        second = self.operators.get(operator.text, "")
        allowed = {operator.text, second, *siblings}
        for key, _ in node.entries:
            if key.text not in allowed:
                self._problem(
                    "condition-key",
                    f"the key '{key.text[:80]}' does not belong to '{operator.text}'",
                    key.position,
                    f"its operand is '{second}'" if second else "",
                )
        if operator.text in LOGICAL:
            return self._logical(node, operator, depth)
        return self._comparison(node, operator, second)

    def _operator_hint(self, node: MapNode, siblings: tuple[str, ...]) -> str:
        others = [key.text for key, _ in node.entries if key.text not in (*siblings, "value", "path")]
        return suggestion(others[0], {*self.operators, *LOGICAL}) if others else ""

    def _logical(self, node: MapNode, operator: ScalarNode, depth: int) -> Expression | None:
        if depth > self.max_depth:
            self._problem(
                "condition-depth",
                f"'and', 'or' and 'not' can be nested at most {self.max_depth} levels deep",
                operator.position,
            )
            return None
        content = node.get(operator.text)
        items: tuple[Node, ...] = ()
        if isinstance(content, ListNode):
            items = content.items
        elif operator.text == "not" and isinstance(content, MapNode):
            items = (content,)
        if not items or (operator.text == "not" and len(items) != 1):
            wanted = "one condition" if operator.text == "not" else "a list of conditions"
            self._problem("condition-shape", f"'{operator.text}' needs {wanted}", operator.position)
            return None
        if self.max_operands is not None and len(items) > self.max_operands:
            message = f"'{operator.text}' has {len(items)} conditions; the limit is {self.max_operands}"
            self._problem("condition-shape", message, operator.position)
            return None
        operands = [self.expression(item, (), depth + 1) for item in items]
        complete = tuple(operand for operand in operands if operand is not None)
        return Logical(operator.text, complete, operator.position) if len(complete) == len(operands) else None

    def _comparison(self, node: MapNode, operator: ScalarNode, second: OperandKey) -> Expression | None:
        # An empty scalar is a value here: `stringIsEmpty:` and `value: ''` compare the empty text.
        entries = {key.text: value for key, value in node.entries}
        baseline = entries[operator.text]
        value = entries.get(second) if second else None
        if second and value is None:
            self._problem("condition-operand", f"'{operator.text}' needs '{second}'", operator.position)
            return None
        for name, operand in ((operator.text, baseline), (second, value)):
            if operand is not None and not isinstance(operand, ScalarNode):
                hint = "quote a value that begins with {{" if isinstance(operand, MapNode) else ""
                self._problem(
                    "condition-operand",
                    f"'{name}' must be a string, not {kind_of(operand)}",
                    operand.position,
                    hint,
                )
                return None
        assert isinstance(baseline, ScalarNode)
        operand = value if isinstance(value, ScalarNode) else None
        return Comparison(
            operator=operator.text,
            baseline=baseline.text,
            value=None if operand is None else operand.text,
            position=operator.position,
            plain_baseline=baseline.plain,
            plain_value=operand is not None and operand.plain,
        )

    def _problem(self, code: str, message: str, position: Position, hint: str = "") -> None:
        self.problems.append(Problem(code, f"{self.subject}: {message}", position, hint))
