"""Evaluates values of a run: paths, interpolation, conditions, parameters (spec/workflows.md 3, 4, 7.1).

    inputs as written --resolve_inputs--> inputs in the types of the action
    `if`              --evaluate_condition--> whether the step runs
    outputs           --resolve_outputs--> $.workflowOutputs of later workflows

A resolved value is never scanned again: a text that a user sends as a reason cannot become an expression.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from imagesmith.documents.conditions import Expression
from imagesmith.documents.fields import boolean_of, integer_of
from imagesmith.documents.references import replace_references
from imagesmith.values.expansion import Budget, TooLarge
from imagesmith.workflow_documents.actions import StepAction, step_actions
from imagesmith.workflow_documents.declarations import MAX_VALUE
from imagesmith.workflow_documents.document import Parameter, Step, WorkflowDocument
from imagesmith.workflow_documents.inputs import Input, InputError, coerced, context_of, text_of
from imagesmith.workflow_documents.paths import Path, PathError, ValueContext, expression_of, parse_path
from imagesmith.workflow_documents.step_conditions import ConditionError, is_true
from imagesmith.workflow_documents.variables import find_variable

MAX_GROWTH: Final = 1024 * 1024
"""Most characters that the values in braces may add to the inputs of one step."""


class Unresolvable(ValueError):
    """A value that is missing, or has the wrong type; the step fails. `path` names it
    (spec/workflows.md 3.4, 3.6)."""

    def __init__(self, message: str, path: str = "") -> None:
        self.message = message
        self.path = path
        super().__init__(message)


class ParameterError(ValueError):
    """A parameter value that the document does not allow, or a missing one
    (spec/workflows.md 7.1)."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


Lookup = Callable[[Path], Any]
"""Returns the value at a path; raises Unresolvable."""


@dataclass(frozen=True)
class Scope:
    """The values that paths can reach. `step_outputs` holds only steps with outputs."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    step_outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workflow_outputs: Mapping[str, Any] = field(default_factory=dict)
    imagebuilder: Mapping[str, Any] = field(default_factory=dict)


def resolve_path(path: Path | str, scope: Scope) -> Any:
    """The value at a path, in its own type. Raises Unresolvable."""
    found = _parsed(path)
    roots: Mapping[str, Mapping[str, Any]] = {
        "parameters": scope.parameters,
        "stepOutputs": scope.step_outputs,
        "workflowOutputs": scope.workflow_outputs,
    }
    if found.root == "imagebuilder":
        value, rest = _variable(found, scope), found.segments[2:]
    elif found.root in roots and found.name:
        value, rest = roots[found.root], found.segments[1:]
    else:
        raise _unresolvable(found)
    for segment in rest:
        value = _below(value, segment, found)
    if value is None:
        raise _unresolvable(found)
    return value


def resolve_text(text: str, scope: Scope) -> str:
    """The text with each `{{ $.path }}` replaced; other braces stay. Raises Unresolvable."""
    return _interpolated(text, _lookup(scope), Budget(MAX_GROWTH))


def resolve_value(value: Any, scope: Scope) -> Any:
    """The value of an output, an operand, or anything else that a path can be. Raises Unresolvable."""
    return resolve_expression(value, _lookup(scope))


def resolve_inputs(
    inputs: Mapping[str, Any], scope: Scope, *, action: str, strict_chaining: bool = False
) -> Mapping[str, Any]:
    """The inputs of a step in the types of its action, keys without `.$`; absent inputs stay absent.

    `strict_chaining` makes a path under a plain key a literal text
    (spec/workflows.md 13, no. 3). Raises Unresolvable.
    """
    found = step_actions()[action]
    given = resolve_members(inputs, _lookup(scope), found.inputs, strict_chaining=strict_chaining)
    missing = [spec.name for spec in found.inputs if spec.required and spec.name not in given]
    if missing:
        raise Unresolvable(f"{action} needs the input '{missing[0]}'", f"inputs.{missing[0]}")
    return {name: typed_input(found, name, value) for name, value in given.items()}


def typed_input(action: StepAction, name: str, value: Any) -> Any:
    """A resolved input in its type. Raises Unresolvable."""
    spec = action.input(name)
    if spec is None:
        raise Unresolvable(f"{action.name} has no input '{name[:80]}'", f"inputs.{name}")
    try:
        return coerced(spec, value, f"inputs.{name}")
    except InputError as error:
        raise Unresolvable(str(error), error.path) from error


def evaluate_condition(condition: Expression | None, scope: Scope) -> bool:
    """Whether a step runs; without a condition it does. Raises Unresolvable, then the step fails
    (spec/workflows.md 3.6)."""
    return condition_holds(condition, _lookup(scope))


def condition_holds(condition: Expression | None, lookup: Lookup) -> bool:
    """As evaluate_condition, with the values of `lookup`."""
    if condition is None:
        return True
    try:
        return is_true(condition, lambda text: resolve_expression(text, lookup))
    except ConditionError as error:
        raise Unresolvable(str(error), "if") from error


def evaluate_rollback(step: Step, scope: Scope) -> bool:
    """Whether a step's rollback is enabled. Raises Unresolvable."""
    if isinstance(step.rollback, bool):
        return step.rollback
    try:
        value = resolve_value(step.rollback, scope)
        return bool(coerced(Input("rollbackEnabled", "boolean", ""), value, "rollbackEnabled"))
    except InputError as error:
        raise Unresolvable(str(error), error.path) from error


def resolve_outputs(document: WorkflowDocument, scope: Scope) -> Mapping[str, Any]:
    """The outputs of a workflow that ended; an unresolvable one is omitted (spec/workflows.md 3.6)."""
    values: dict[str, Any] = {}
    for output in document.outputs:
        try:
            values[output.name] = resolve_value(output.value, scope)
        except Unresolvable:
            continue
    return values


def bind_parameters(document: WorkflowDocument, given: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """Every parameter's value in its type, defaults filled in. Raises ParameterError (spec/workflows.md 7.1)."""
    declared = {parameter.name: parameter for parameter in document.parameters}
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ParameterError(name, f"The workflow has no parameter '{name}'; it declares: {known}.")
    values: dict[str, Any] = {}
    for parameter in document.parameters:
        if parameter.name in given:
            values[parameter.name] = _bound(parameter, given[parameter.name])
        elif parameter.has_default:
            default = parameter.default
            values[parameter.name] = list(default) if isinstance(default, tuple) else default
        else:
            message = f"The parameter '{parameter.name}' has no default, so it needs a value."
            raise ParameterError(parameter.name, message)
    return values


def _bound(parameter: Parameter, texts: Sequence[str]) -> Any:
    name = parameter.name
    for text in texts:
        if len(text) > MAX_VALUE:
            raise ParameterError(name, f"A value of the parameter '{name}' has more than {MAX_VALUE} characters.")
    if parameter.type == "stringList":
        return list(texts)
    if len(texts) != 1:
        raise ParameterError(name, f"The parameter '{name}' takes one {parameter.type}, {len(texts)} are given.")
    text = texts[0]
    value: str | int | bool | None = text
    if parameter.type == "integer":
        value = integer_of(text)
    elif parameter.type == "boolean":
        value = boolean_of(text)
    if value is None:
        message = f"The value '{text[:80]}' of the parameter '{name}' is not of type {parameter.type}."
        raise ParameterError(name, message)
    return value


def resolve_expression(value: Any, lookup: Lookup) -> Any:
    """As resolve_value, with the values of `lookup`."""
    return _resolve(value, lookup, "chained", Budget(MAX_GROWTH))


def resolve_members(
    given: Mapping[str, Any],
    lookup: Lookup,
    specs: Sequence[Input],
    *,
    strict_chaining: bool = False,
    budget: Budget | None = None,
) -> Mapping[str, Any]:
    """The members of a mapping, keys without `.$`; entries without a value are absent. Types stay as they are.

    The total growth of its texts is bounded. Raises Unresolvable.
    """
    left = budget or Budget(MAX_GROWTH)
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = key.removesuffix(".$")
        spec = next((item for item in specs if item.name == name), None)
        if value is not None:
            context = context_of(key, None if strict_chaining else spec)
            found[name] = _resolve(value, lookup, context, left, spec, strict_chaining)
    return found


def _resolve(
    value: Any, lookup: Lookup, at: ValueContext, budget: Budget, spec: Input | None = None, strict: bool = False
) -> Any:
    if isinstance(value, Mapping):
        members = () if spec is None else spec.members
        return resolve_members(value, lookup, members, strict_chaining=strict, budget=budget)
    if isinstance(value, list | tuple):
        # each path of a list is resolved separately; a resolved list is not flattened
        # (spec/workflows.md 3.3)
        inner: ValueContext = "chained" if at == "chained" else "text"
        return [_resolve(item, lookup, inner, budget, spec, strict) for item in value]
    if not isinstance(value, str):
        return value
    try:
        expression = expression_of(value, at)
    except PathError as error:
        raise Unresolvable(str(error), value) from error
    return lookup(expression) if isinstance(expression, Path) else _interpolated(value, lookup, budget)


def _interpolated(text: str, lookup: Lookup, budget: Budget) -> str:
    def value(body: str) -> str | None:
        return text_of(lookup(_parsed(body))) if body.startswith("$") else None

    try:
        return replace_references(text, value, budget)
    except TooLarge as error:
        raise Unresolvable(str(error)) from error


def _lookup(scope: Scope) -> Lookup:
    return lambda path: resolve_path(path, scope)


def _parsed(path: Path | str) -> Path:
    if isinstance(path, Path):
        return path
    try:
        return parse_path(path)
    except PathError as error:
        raise Unresolvable(str(error), path) from error


def _variable(path: Path, scope: Scope) -> Any:
    if path.name in scope.imagebuilder:
        return scope.imagebuilder[path.name]
    variable = find_variable(path.name)
    value = None if variable is None else scope.imagebuilder.get(variable.name, variable.absent)
    if value is None:
        raise _unresolvable(path)
    return value


def _below(value: Any, segment: str | int, path: Path) -> Any:
    """The value one segment deeper; a text that holds JSON is parsed first (spec/workflows.md 3.2)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _unresolvable(path) from error
    if isinstance(segment, int) and isinstance(value, list | tuple) and segment < len(value):
        return value[segment]
    if isinstance(segment, str) and isinstance(value, Mapping) and segment in value:
        return value[segment]
    raise _unresolvable(path)


def _unresolvable(path: Path) -> Unresolvable:
    return Unresolvable(f"Unable to resolve '{path.text}'", path.text)
