"""Paths, interpolation, coercion, conditions and parameters of a run (spec/workflows.md 3, 4, 7.1, 14)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.documents.conditions import Expression
from imagesmith.workflow_documents.actions import step_actions
from imagesmith.workflow_documents.document import WorkflowDocument
from imagesmith.workflow_documents.expressions import (
    ParameterError,
    Scope,
    Unresolvable,
    bind_parameters,
    evaluate_condition,
    evaluate_rollback,
    resolve_inputs,
    resolve_outputs,
    resolve_path,
    resolve_text,
    resolve_value,
)
from imagesmith.workflow_documents.grammar import parse_workflow
from imagesmith.workflow_documents.inputs import Input, InputError, Kind, coerced
from imagesmith.workflow_documents.paths import PathError, parse_path
from testing.workflow_samples import LAUNCH, document_of

SCOPE = Scope(
    parameters={"topic": "arn:t", "count": 5, "on": True, "list": ["a", "b"], "no": "false"},
    step_outputs={
        "Launch": {"instanceId": "i-1"},
        "Run": {"output": ["first", "second"], "json": '{"severity": {"high": [3]}}', "none": None},
        "Ask": {"reason": "{{ $.parameters.topic }} $.parameters.topic"},
    },
    workflow_outputs={"ImageId": "ami-1"},
    imagebuilder={"imageType": "DOCKER", "platform": "Linux", "imageBuildNumber": 3},
)


def document(*steps: str, before: str = "") -> WorkflowDocument:
    parsed = parse_workflow(document_of(LAUNCH, "name: Run, action: WaitForAction", *steps, before=before), "BUILD")
    assert parsed.document is not None, parsed.problems
    return parsed.document


def condition(text: str) -> Expression:
    found = document(f"name: Only, action: WaitForAction, if: {text}").steps[-1].condition
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.parameters.count", 5),
        ("$.parameters['topic']", "arn:t"),
        ("$['parameters'].list[1]", "b"),
        ("$.stepOutputs.Run.output", ["first", "second"]),
        ("$.stepOutputs.Run.output[0]", "first"),
        ("$.stepOutputs.Run.json.severity.high[0]", 3),
        ("$.workflowOutputs.ImageId", "ami-1"),
        ("$.imagebuilder.imageType", "DOCKER"),
        ("$.imagebuilder.Platform", "Linux"),
        ("$.imageBuilder.imageBuildNumber", 3),
        ("$.imagebuilder.subnetId", ""),
        ("$.imagebuilder.securityGroups", []),
        ("$.imagebuilder.s3Logs", {}),
    ],
)
def test_paths_reach_values_in_their_own_type(path: str, value: object) -> None:
    """Names, indexes and JSON inside a text are followed; variables without a value are empty."""
    assert resolve_path(path, SCOPE) == value


@pytest.mark.parametrize(
    "path",
    [
        "$.parameters.nobody",
        "$.stepOutputs.Run.output[2]",
        "$.stepOutputs.Run.output.x",
        "$.stepOutputs.Run.none",
        "$.stepOutputs.Skipped.x",
        "$.stepOutputs.Launch.instanceId.x",
        "$.imagebuilder.collectImageMetadata",
        "$.parameters",
        "$.nothing.x",
    ],
)
def test_paths_that_lead_nowhere_say_so(path: str) -> None:
    """The message names the path: the step that uses it fails with it."""
    with pytest.raises(Unresolvable) as caught:
        resolve_path(path, SCOPE)
    assert caught.value.message == f"Unable to resolve '{path}'"
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ $.stepOutputs.Launch.instanceId }}", "i-1"),
        ("a{{$.parameters.count}}b{{\t$.parameters.on }}", "a5btrue"),
        ("{{ $.parameters.list }}", '["a","b"]'),
        ("{{ imagebuilder:buildDate }} {{imagebuilder:buildVersion}}", None),
        ("{{ .Go }} $.parameters.topic {{ $.parameters.topic", None),
        ('{"a":{"b":{{ $.parameters.count }}}}', '{"a":{"b":5}}'),
        ("{{ $.stepOutputs.Ask.reason }}", "{{ $.parameters.topic }} $.parameters.topic"),
    ],
)
def test_interpolation(text: str, expected: str | None) -> None:
    """Paths in braces are replaced once; every other brace and every inserted text stays as it is."""
    assert resolve_text(text, SCOPE) == (text if expected is None else expected)


def test_inputs_are_resolved_at_any_depth() -> None:
    """`.$` works in maps and in maps inside lists, over lists of paths, and keeps the types of values."""
    written = {
        "instanceId.$": "$.stepOutputs.Launch.instanceId",
        "documentName": "Doc {{ $.parameters.count }}",
        "parameters": {
            "commands.$": "$.stepOutputs.Run.output",
            "select_members.$": ["$.parameters.topic", "$.stepOutputs.Run.output[1]", "literal"],
            "plain": ["$.parameters.topic", "{{ $.parameters.topic }}"],
            "one.$": "$.parameters.count",
        },
    }
    assert resolve_inputs(written, SCOPE, action="RunCommand") == {
        "instanceId": "i-1",
        "documentName": "Doc 5",
        "parameters": {
            "commands": ["first", "second"],
            "select_members": ["arn:t", "second", "literal"],
            "plain": ["$.parameters.topic", "arn:t"],
            "one": ["5"],
        },
    }
    mapping = [{"DeviceName": "a", "Ebs": {"SnapshotId.$": "$.stepOutputs.Launch.instanceId", "VolumeSize": 8}}]
    resolved = resolve_inputs({"blockDeviceMapping": mapping}, SCOPE, action="RegisterImage")
    assert resolved == {"blockDeviceMapping": [{"DeviceName": "a", "Ebs": {"SnapshotId": "i-1", "VolumeSize": 8}}]}


def test_three_ways_to_write_a_scalar_input() -> None:
    """A static value under `.$` is literal; a bare path of a scalar input resolves, unless chaining is strict."""
    bare = {"instanceId": "$.stepOutputs.Launch.instanceId"}
    assert resolve_inputs({"instanceId.$": "i-0abc"}, SCOPE, action="CreateImage") == {"instanceId": "i-0abc"}
    assert resolve_inputs(bare, SCOPE, action="CreateImage") == {"instanceId": "i-1"}
    assert resolve_inputs(bare, SCOPE, action="CreateImage", strict_chaining=True) == bare
    text = {"payload.$": 'multi\n{"id": "{{ $.stepOutputs.Launch.instanceId }}"}'}
    assert resolve_inputs(text, SCOPE, action="WaitForAction") == {"payload": 'multi\n{"id": "i-1"}'}


@pytest.mark.parametrize(
    ("action", "inputs"),
    [
        ("CreateImage", {"instanceId.$": "$.stepOutputs.Skipped.instanceId"}),
        ("CreateImage", {"instanceId.$": "$.imagebuilder.subnetId"}),
        ("CreateImage", {"instanceId.$": "$.parameters.list"}),
        ("CreateImage", {}),
        ("TerminateInstance", {"instanceId": "i", "waitForTermination.$": "$.parameters.topic"}),
        ("ExecuteStateMachine", {"stateMachineArn": "a", "input": '{"a": "{{ $.stepOutputs.Run.json }}"}'}),
        ("ExecuteStateMachine", {"stateMachineArn": "a", "input": {"a": "x" * 16384}}),
        ("WaitForAction", {"payload": "x" * 16385}),
        ("LaunchInstance", {"waitFor.$": "$.parameters.topic"}),
        ("DistributeImage", {"distributions": [{"region.$": "$.parameters.topic"}, {"region": "arn:t"}]}),
        ("DistributeImage", {"distributions": [{"name": "x"}]}),
        ("ModifyImageAttributes", {"distributedImages.$": "$.parameters.topic"}),
    ],
)
def test_inputs_that_fail_their_step(action: str, inputs: dict[str, Any]) -> None:
    """A value that cannot be had or has the wrong type is told with its place."""
    with pytest.raises(Unresolvable) as caught:
        resolve_inputs(inputs, SCOPE, action=action)
    assert caught.value.path


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("boolean", "TRUE", True), ("boolean", False, False), ("boolean", "yes", None), ("boolean", 1, None),
        ("integer", "12", 12), ("integer", 3.0, 3), ("integer", 3.5, None), ("integer", True, None),
        ("integer", -4, -4),
        ("string", 5, "5"), ("string", True, "true"), ("string", 1.5, "1.5"), ("string", [1], None),
        ("string", {}, None),
        ("strings", "a", ["a"]), ("strings", ["a", 1, False], ["a", "1", "false"]), ("strings", [["a"]], None),
        ("strings", {"a": 1}, None), ("json", {"a": [1]}, '{"a":[1]}'), ("json", "[1]", "[1]"), ("json", "{", None),
        ("tags", {"a": 1}, {"a": "1"}), ("tags", [1], None), ("arguments", {"a": "b"}, {"a": ["b"]}),
    ],
)  # fmt: skip
def test_gentle_conversion(kind: Kind, value: object, expected: object) -> None:
    """What means the same is converted; anything else is refused (None here)."""
    spec = Input("x", kind, "")
    if expected is None:
        with pytest.raises(InputError):
            coerced(spec, value, "inputs.x")
    else:
        assert coerced(spec, value, "inputs.x") == expected


def test_a_mapping_may_stand_for_a_list_of_one() -> None:
    """Inputs whose documented type is wrong accept a mapping and a list (spec/workflows.md 13, no. 18)."""
    images = {"distributedImages": [{"region": "a", "amiId": "ami-1"}]}
    export = {"roleName": "r", "diskImageFormat": "RAW", "s3Bucket": "b"}
    for written in (export, [export]):
        inputs = {**images, "configurations": [{"region": "a", "s3ExportConfiguration": written}]}
        resolved = resolve_inputs(inputs, SCOPE, action="ApplyImageConfigurations")
        assert resolved["configurations"] == [{"region": "a", "s3ExportConfiguration": [export]}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{numberEquals: '1', value: 1}", True),
        ("{numberEquals: 5.0, value: 5}", True),
        ("{numberEquals: -1, value: '-1'}", True),
        ("{stringEquals: true, value: 'true'}", True),
        ("{stringEquals: True, value: 'true'}", True),
        ("{stringEquals: 'True', value: 'true'}", False),
        ("{stringEquals: 'linux', value: 'Linux'}", False),
        ("{not: {stringEquals: '', value: 'x'}}", True),
        ("{or: [{stringEquals: a, value: b}, {numberLessThan: 3, value: 2}]}", True),
        ("{and: [{booleanEquals: false, value: true}, {booleanEquals: true, value: $.stepOutputs.Run.x}]}", False),
        ("{or: [{booleanEquals: true, value: 'TRUE'}, {booleanEquals: true, value: $.stepOutputs.Run.x}]}", True),
        ("{numberGreaterThan: 5, value: 7}", True),
        ("{numberGreaterThanEquals: 7, value: 7}", True),
        ("{numberLessThan: 7, value: 7}", False),
        ("{numberLessThanEquals: 7, value: 7.0}", True),
        ("{numberEquals: 0.1, value: '0.10000000000000000001'}", False),
        ("{numberEquals: 5, value: $.parameters.count}", True),
        ("{stringEquals: $.imagebuilder.imageType, value: DOCKER}", True),
        ("{booleanEquals: $.parameters.no, value: false}", True),
        ("{stringEquals: 'Linux-', value: '{{ $.imagebuilder.platform }}-{{ $.imagebuilder.subnetId }}'}", True),
        ("{numberEquals: abc, value: 1}", None),
        ("{numberEquals: true, value: 1}", None),
        ("{booleanEquals: 1, value: true}", None),
        ("{booleanEquals: true, value: $.stepOutputs.Run.skipped}", None),
        ("{numberEquals: $.parameters.list, value: 1}", None),
    ],
)  # fmt: skip
def test_conditions(text: str, expected: bool | None) -> None:
    """The vectors of spec/workflows.md 4.5 and more; None fails the step, which is neither true nor false."""
    before = "parameters: [{name: count}, {name: no}, {name: list}]\n"
    found = document(f"name: Only, action: WaitForAction, if: {text}", before=before).steps[-1].condition
    assert found is not None
    if expected is None:
        with pytest.raises(Unresolvable):
            evaluate_condition(found, SCOPE)
    else:
        assert evaluate_condition(found, SCOPE) is expected


def test_a_step_without_condition_runs() -> None:
    """No `if` is true."""
    assert evaluate_condition(None, Scope())


def test_rollback_may_be_a_path() -> None:
    """A path is resolved to a boolean when it is asked for."""
    before = "parameters: [{name: no}, {name: topic}]\n"
    steps = (
        "name: Never, action: WaitForAction, rollbackEnabled: false",
        "name: Maybe, action: WaitForAction, rollbackEnabled.$: $.parameters.no",
        "name: Wrong, action: WaitForAction, rollbackEnabled: $.parameters.topic",
    )
    launch, _, never, maybe, wrong = document(*steps, before=before).steps
    assert [evaluate_rollback(step, SCOPE) for step in (launch, never, maybe)] == [True, False, False]
    with pytest.raises(Unresolvable):
        evaluate_rollback(wrong, SCOPE)


def test_outputs_without_a_value_are_left_out() -> None:
    """Constants, paths and texts with braces are outputs; one that cannot be resolved is undefined."""
    outputs = (
        "outputs: [{name: a, value: constant}, {name: b, value: $.stepOutputs.Run.output}, "
        "{name: c, value: $.stepOutputs.Launch.nothing}, "
        "{name: d, value: 'id {{ $.stepOutputs.Launch.instanceId }}'}]\n"
    )
    assert resolve_outputs(document(before=outputs), SCOPE) == {
        "a": "constant",
        "b": ["first", "second"],
        "d": "id i-1",
    }


PARAMETERS = (
    "parameters: [{name: s, type: string}, {name: i, type: integer, default: 7}, "
    "{name: b, type: boolean, default: true}, {name: l, type: stringList, default: [x]}]\n"
)


def test_parameters_are_bound_in_their_types() -> None:
    """Given values are converted, missing ones take their defaults, an empty text is a value."""
    bound = document(before=PARAMETERS)
    assert bind_parameters(bound, {"s": [""]}) == {"s": "", "i": 7, "b": True, "l": ["x"]}
    given_values = {"s": ["x"], "i": ["-12"], "b": ["FALSE"], "l": []}
    assert bind_parameters(bound, given_values) == {"s": "x", "i": -12, "b": False, "l": []}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "s"), ({"s": ["a"], "other": ["b"]}, "other"), ({"s": ["a", "b"]}, "s"), ({"s": []}, "s"),
        ({"s": ["a"], "i": ["1.0"]}, "i"), ({"s": ["a"], "b": ["yes"]}, "b"), ({"s": ["x" * 1025]}, "s"),
        ({"s": ["a"], "i": ["9" * 5000]}, "i"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused_by_name(values: dict[str, list[str]], name: str) -> None:
    """Missing, unknown, too many and wrongly typed values name their parameter."""
    with pytest.raises(ParameterError, match=f"'{name}'") as caught:
        bind_parameters(document(before=PARAMETERS), values)
    assert caught.value.name == name


_NAMES = st.text(st.sampled_from("abzAZ019_-"), min_size=1, max_size=8)
_QUOTED = st.text(st.characters(exclude_characters="'\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8)
_JSON = st.recursive(
    st.booleans() | st.integers(-999, 999) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_QUOTED, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _places(draw: st.DrawFn) -> tuple[str, Any]:
    """A value, and a path into it."""
    value = draw(_JSON)
    path, reached = "", value
    while isinstance(reached, list | dict) and reached and draw(st.booleans()):
        if isinstance(reached, list):
            index = draw(st.integers(0, len(reached) - 1))
            path, reached = f"{path}[{index}]", reached[index]
        else:
            key = draw(st.sampled_from(sorted(reached)))
            path, reached = f"{path}['{key}']", reached[key]
    return path, value


@settings(deadline=None)
@given(place=_places(), name=_NAMES, as_text=st.booleans())
def test_every_place_of_a_value_has_a_path(place: tuple[str, Any], name: str, as_text: bool) -> None:
    """Any JSON value is reached at any depth, also when the output is its text."""
    path, value = place
    reached = value
    for segment in parse_path(f"$.x{path}").segments[1:]:
        reached = reached[segment]
    stored = json.dumps(value) if as_text and path else value
    scope = Scope(workflow_outputs={name: stored})
    assert resolve_path(f"$.workflowOutputs.{name}{path}", scope) == reached


@settings(deadline=None)
@given(st.text(st.sampled_from("$.[]'ab01 x{}"), max_size=12))
def test_paths_are_read_or_refused(text: str) -> None:
    """Any text is a path, whose text stays, or a PathError."""
    try:
        assert parse_path(text).text == text
    except PathError:
        return


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_inserted_text_is_never_an_expression(before: str, reason: str) -> None:
    """What somebody sends is inserted as it is, whatever it looks like."""
    scope = Scope(step_outputs={"Ask": {"reason": reason}})
    quoted = before.replace("{", "(")
    assert resolve_text(f"{quoted}{{{{ $.stepOutputs.Ask.reason }}}}", scope) == quoted + reason
    assert resolve_value("$.stepOutputs.Ask.reason", scope) == reason


@settings(deadline=None)
@given(
    action=st.sampled_from(sorted(step_actions())),
    inputs=st.dictionaries(
        st.sampled_from(["instanceId", "instanceId.$", "parameters", "distributions", "input.$", "payload"]),
        st.none() | _JSON | st.sampled_from(["$.parameters.list", "{{ $.parameters.topic }}", "$.a"]),
    ),
)
def test_resolving_gives_inputs_or_a_failure(action: str, inputs: dict[str, Any]) -> None:
    """Whatever stands in inputs, the answer is plain JSON data or one failure that is told."""
    try:
        resolved = resolve_inputs(inputs, SCOPE, action=action)
    except Unresolvable as error:
        assert error.message
    else:
        assert json.loads(json.dumps(resolved)) == resolved
        assert not any(key.endswith(".$") for key in resolved)


_LEAF = st.builds(
    lambda right, left: (f"{{numberEquals: {right}, value: {left}}}", right == left),
    st.integers(0, 2),
    st.integers(0, 2),
)


@settings(deadline=None)
@given(st.sampled_from(["and", "or"]), st.lists(_LEAF, min_size=1, max_size=10), st.booleans())
def test_and_or_not_are_the_logical_ones(operator: str, leaves: list[tuple[str, bool]], negated: bool) -> None:
    """'and', 'or' and 'not' agree with the truth of their children."""
    text = f"{{{operator}: [{', '.join(leaf for leaf, _ in leaves)}]}}"
    expected = (all if operator == "and" else any)(truth for _, truth in leaves)
    found = condition(f"{{not: {text}}}" if negated else text)
    assert evaluate_condition(found, Scope()) is (expected != negated)
