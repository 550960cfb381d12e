"""The checks of a document and the run agree on what inputs are (spec/workflows.md 2.6, 3.4, 5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.workflow_documents.actions import StepAction, step_actions
from imagesmith.workflow_documents.expressions import Scope, resolve_inputs
from imagesmith.workflow_documents.grammar import ParsedWorkflow, parse_workflow
from imagesmith.workflow_documents.inputs import Input

_TEXTS = st.sampled_from(["", "a", "true", "False", "12", "1.5", "i-1", "{}", "[1]", "{", "ä", "{{ x }}"])
_SCALARS = _TEXTS | st.booleans() | st.integers(-3, 99) | st.sampled_from([1.5, 2.0]) | st.none()
_ANY = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "region"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def values_of(spec: Input) -> st.SearchStrategy[Any]:
    """Mostly values that an input accepts, and now and then any other."""
    fitting: st.SearchStrategy[Any] = _SCALARS
    if spec.choices:
        fitting = st.sampled_from(spec.choices)
    elif spec.kind in ("strings", "json"):
        fitting = st.lists(_SCALARS, max_size=3)
    elif spec.kind in ("arguments", "tags"):
        fitting = st.dictionaries(_TEXTS, _SCALARS | st.lists(_SCALARS, max_size=2), max_size=2)
    elif spec.kind == "map":
        fitting = members_of(spec.members)
    elif spec.kind == "list":
        fitting = st.lists(members_of(spec.members), max_size=2) | members_of(spec.members)
    return st.one_of(fitting, fitting, fitting, _ANY)


def members_of(specs: tuple[Input, ...]) -> st.SearchStrategy[dict[str, Any]]:
    required = {spec.name: values_of(spec) for spec in specs if spec.required}
    return st.fixed_dictionaries(
        required, optional={spec.name: values_of(spec) for spec in specs if not spec.required}
    )


def parsed(action: StepAction, inputs: Any, **more: Any) -> ParsedWorkflow:
    step = {"name": "Only", "action": action.name, "inputs": inputs, **more}
    return parse_workflow(json.dumps({"schemaVersion": 1, "steps": [step]}), sorted(action.types)[0])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_static_inputs_that_pass_the_checks_are_accepted_by_the_run(data: st.DataObject) -> None:
    """What CreateWorkflow accepts without any path never fails its step for its inputs."""
    action = data.draw(st.sampled_from([item for item in step_actions().values() if item.inputs]))
    specs = tuple(spec for spec in action.inputs if spec.kind != "images")
    if specs != action.inputs:
        return
    inputs = data.draw(members_of(specs))
    found = parsed(action, inputs)
    if found.document is None:
        assert all(problem.position is not None for problem in found.problems)
        return
    resolved = resolve_inputs(found.document.steps[0].inputs, Scope(), action=action.name)
    assert json.loads(json.dumps(resolved)) == resolved
    assert set(resolved) <= set(inputs)


@pytest.mark.parametrize("name", sorted(step_actions()))
def test_times_of_every_action(name: str) -> None:
    """The default is filled in; one second up to the maximum is accepted, one more is refused."""
    action = step_actions()[name]
    inputs: dict[str, Any] = {}
    for spec in action.inputs:
        if spec.required and spec.kind != "images":
            inputs[spec.name] = spec.choices[0] if spec.choices else "i-1"
        elif spec.required:
            return  # its path needs another step: test_images_come_from_a_distribute_step
    assert (document := parsed(action, inputs).document) is not None
    assert document.steps[0].timeout_seconds == action.default_timeout
    for seconds, accepted in ((1, True), (action.max_timeout, True), (action.max_timeout + 1, False), (0, False)):
        assert (parsed(action, inputs, timeoutSeconds=seconds).document is not None) is accepted
