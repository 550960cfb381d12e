"""Workflow documents: what is accepted, what is refused, and where the problems stand (spec/workflows.md 2, 14)."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imagesmith.workflow_documents.actions import (
    CONTAINER_DISTRIBUTION,
    MACHINE_DISTRIBUTION,
    StepAction,
    step_actions,
)
from imagesmith.workflow_documents.document import WorkflowType, default_texts, parameter_details
from imagesmith.workflow_documents.grammar import ParsedWorkflow, parse_workflow, refusal
from imagesmith.workflow_documents.inputs import Input
from testing.workflow_samples import APPROVAL, LAUNCH, document_of

TYPES: tuple[WorkflowType, ...] = get_args(WorkflowType)


def codes(parsed: ParsedWorkflow) -> list[str]:
    return [problem.code for problem in parsed.errors]


def only_step(keys: str, *, before: str = "", kind: WorkflowType = "BUILD") -> ParsedWorkflow:
    """A document with one step after a launch; `keys` is flow YAML."""
    return parse_workflow(document_of(LAUNCH, keys, before=before), kind)


def example_inputs(action: StepAction) -> dict[str, object]:
    """The least that an action needs."""
    given: dict[str, object] = {}
    for spec in action.inputs:
        if spec.required and spec.kind == "images":
            given[f"{spec.name}.$"] = "$.stepOutputs.Spread.distributedImages"
        elif spec.required:
            given[spec.name] = spec.choices[0] if spec.choices else "i-1"
    return given


def test_a_whole_document_is_read() -> None:
    """Parameters, steps with their defaults, conditions and outputs of a document are all there."""
    parsed = parse_workflow(APPROVAL, "BUILD")
    assert parsed.problems == ()
    document = parsed.document
    assert document is not None
    assert document.name == "build-with-approval"
    launch, components, ask, _, drop = document.steps
    assert (launch.timeout_seconds, components.timeout_seconds) == (4500, 7200)
    assert (launch.on_failure, drop.on_failure) == ("Abort", "Continue")
    assert launch.rollback is True
    assert launch.inputs == {"waitFor": "ssmAgent", "healthCheck": "RUNNING"}
    assert components.inputs == {"instanceId.$": "$.stepOutputs.Launch.instanceId"}
    assert ask.condition is not None
    assert document.output("ImageId") is not None
    assert parameter_details(document) == [{"name": "topicArn", "type": "string", "defaultValue": [""]}]


@pytest.mark.parametrize("name", sorted(step_actions()))
def test_every_action_is_accepted_in_its_stages_only(name: str) -> None:
    """An action passes in the types of workflow of the table and is refused by name in the others."""
    action = step_actions()[name]
    spread = {"name": "Spread", "action": "DistributeImage"}
    step = {"name": "Only", "action": name, "inputs": example_inputs(action)}
    needs_images = any(spec.kind == "images" for spec in action.inputs)
    for kind in TYPES:
        steps = [spread, step] if needs_images and kind == "DISTRIBUTION" else [step]
        parsed = parse_workflow(json.dumps({"schemaVersion": "1.0", "steps": steps}), kind)
        if kind in action.types:
            assert codes(parsed) == []
        else:
            assert parsed.first is not None
            assert parsed.first.code == "wrong-stage"
            assert name in parsed.first.message


@pytest.mark.parametrize("machine", sorted(MACHINE_DISTRIBUTION))
def test_container_and_machine_distribution_do_not_mix(machine: str) -> None:
    """A document distributes container images or machine images, never both."""
    steps = [
        {"name": "Spread", "action": "DistributeImage"},
        {"name": "Other", "action": machine, "inputs": example_inputs(step_actions()[machine])},
        {"name": "Push", "action": next(iter(CONTAINER_DISTRIBUTION)), "inputs": {"instanceId": "i-1"}},
    ]
    assert "mixed-distribution" in codes(parse_workflow(json.dumps({"schemaVersion": 1, "steps": steps}), TYPES[2]))


@pytest.mark.parametrize(
    ("steps", "parameters", "outputs", "accepted"),
    [(15, 25, 25, True), (16, 1, 1, False), (1, 26, 1, False), (1, 1, 26, False), (0, 1, 1, False)],
)
def test_counts_have_limits(steps: int, parameters: int, outputs: int, accepted: bool) -> None:
    """15 steps, 25 parameters and 25 outputs pass; one more of any, or no step at all, does not."""
    text = json.dumps(
        {
            "schemaVersion": 1.0,
            "parameters": [{"name": f"p{number}", "type": "string"} for number in range(parameters)],
            "steps": [{"name": f"Wait{number}", "action": "WaitForAction"} for number in range(steps)],
            "outputs": [{"name": f"o{number}", "value": "x"} for number in range(outputs)],
        }
    )
    parsed = parse_workflow(text, "TEST")
    assert (parsed.document is not None) is accepted, parsed.problems


@pytest.mark.parametrize("version", ["1.0", "1", '"1.0"', "'1'"])
def test_spellings_of_the_schema_version(version: str) -> None:
    """The version may be a number or a text."""
    text = f"---\nschemaVersion: {version}\nsteps: [{{name: Wait, action: WaitForAction}}]\n"
    assert codes(parse_workflow(text, "BUILD")) == []


@pytest.mark.parametrize("version", ["2.0", "1.1", "'1.00'", "v1", "[1.0]", ""])
def test_other_schema_versions_are_refused(version: str) -> None:
    """Only version 1.0 exists."""
    text = f"schemaVersion: {version}\nsteps: [{{name: Wait, action: WaitForAction}}]\n"
    assert parse_workflow(text, "BUILD").document is None


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ("action: CreateImage", "missing-input"),
        ("action: CreateImage, inputs: {}", "missing-input"),
        ("action: CreateImage, inputs: {instanceId: }", "missing-input"),
        ("action: CreateImage, inputs: {instanceId: ''}", "wrong-input"),
        ("action: CreateImage, inputs: {instanceId: i-1, instanceId.$: $.x.y}", "input-twice"),
        ("action: CreateImage, inputs: {instanceID: i-1}", "unknown-input"),
        ("action: CreateImage, inputs: {instanceId: [i-1]}", "wrong-input"),
        ("action: CreateImage, inputs: {instanceId: {a: b}}", "wrong-input"),
        ("action: CreateImage, inputs: [instanceId]", "wrong-type"),
        ("action: LaunchInstance, inputs: {waitFor: sshd}", "wrong-input"),
        ("action: LaunchInstance, inputs: {waitFor: ssmAgent, healthCheck: running}", "wrong-input"),
        ("action: LaunchInstance, inputs: {waitFor: ssmAgent, instanceTypesOverride: {a: b}}", "wrong-input"),
        ("action: TerminateInstance, inputs: {instanceId: i-1, waitForTermination: perhaps}", "wrong-input"),
        ("action: RunCommand, inputs: {instanceId: i-1, documentName: D, parameters: [a]}", "wrong-input"),
        ("action: RunCommand, inputs: {instanceId: i-1, documentName: D, parameters: {a: {b: c}}}", "wrong-input"),
        ("action: ExecuteStateMachine, inputs: {stateMachineArn: a, input: '{'}", "wrong-input"),
        ("action: RegisterImage, inputs: {architecture: sparc}", "wrong-input"),
        ("action: RegisterImage, inputs: {blockDeviceMapping: {DeviceName: a}}", "wrong-input"),
        ("action: Launch, inputs: {}", "unknown-action"),
        ("action: WaitForAction, onFailure: Ignore", "wrong-value"),
        ("action: WaitForAction, onFailure: abort", "wrong-value"),
        ("action: WaitForAction, timeoutSeconds: 604801", "wrong-value"),
        ("action: WaitForAction, timeoutSeconds: 0", "wrong-value"),
        ("action: WaitForAction, timeoutSeconds: soon", "wrong-type"),
        ("action: WaitForAction, timeoutSeconds.$: $.parameters.p", "unknown-key"),
        ("action: WaitForAction, rollbackEnabled: maybe", "wrong-value"),
        ("action: WaitForAction, rollbackEnabled: true, rollbackEnabled.$: $.parameters.p", "wrong-keys"),
        ("action: WaitForAction, rollbackEnabled.$: $.parameters.p", "undefined-parameter"),
        ("action: WaitForAction, description: ''", "wrong-value"),
        ("action: WaitForAction, retry: 3", "unknown-key"),
        ("action: WaitForAction, loop: {}", "unknown-key"),
        ("action: WaitForAction, if: {stringEquals: a}", "condition-operand"),
        ("action: WaitForAction, if: {stringEquals: a, value: b, then: Skip}", "condition-key"),
        ("action: WaitForAction, if: {stringIsEmpty: a}", "condition-operator"),
        ("action: WaitForAction, if: [{stringEquals: a, value: b}, {}]", "condition-shape"),
        ("action: WaitForAction, if: a", "condition-shape"),
        ("action: WaitForAction, if: {and: []}", "condition-shape"),
        ("action: WaitForAction, if: {and: [{stringEquals: a, value: b}], or: []}", "condition-operator"),
        ("action: WaitForAction, if: {stringEquals: a, value: $.parameters.p}", "undefined-parameter"),
        ("action: WaitForAction, if: {stringEquals: $.stepOutputs.Only.reason, value: a}", "forward-reference"),
        ("action: WaitForAction, inputs: {payload: '{{ $.stepOutputs.Later.x }}'}", "undefined-step"),
        ("action: WaitForAction, inputs: {payload: 'a {{ $x }}'}", "path-syntax"),
        ("action: WaitForAction, inputs: {payload.$: $.stepOutputs.Only.action}", "forward-reference"),
        ("action: WaitForAction, inputs: {payload.$: $.steps.Launch.x}", "path-root"),
        ("action: WaitForAction, inputs: {payload.$: $.stepOutputs..x}", "path-syntax"),
        ("action: WaitForAction, inputs: {payload.$: $.stepOutputs}", "path-syntax"),
        ("action: WaitForAction, inputs: {payload.$: $.imagebuilder.nonsense}", "undefined-variable"),
        ("action: WaitForAction, inputs: {payload: &a x}", "yaml-alias"),
        ("action: WaitForAction, inputs: {payload: !mine x}", "yaml-tag"),
        ("action: WaitForAction, action: WaitForAction", "yaml-duplicate-key"),
    ],
)  # fmt: skip
def test_problems_of_a_step(keys: str, code: str) -> None:
    """Each defect of a step has its own code and a place in the document."""
    parsed = only_step(f"name: Only, {keys}")
    assert parsed.document is None
    assert code in codes(parsed), parsed.problems
    problem = next(problem for problem in parsed.errors if problem.code == code)
    assert problem.position is not None
    assert problem.position.line >= 4


@pytest.mark.parametrize(
    "keys",
    [
        "action: WaitForAction",
        "action: WaitForAction, inputs: ",
        "action: CreateImage, inputs: {instanceId.$: i-0abc}",
        "action: CreateImage, inputs: {instanceId: $.stepOutputs.Launch.instanceId}",
        "action: CreateImage, inputs: {instanceId: '{{$.stepOutputs.Launch.instanceId}}'}",
        "action: CreateImage, inputs: {instanceId.$: \"$.stepOutputs.Launch.nobody[0]['x y']\"}",
        "action: CreateImage, inputs: {instanceId.$: $.imageBuilder.Platform}",
        "action: RunCommand, inputs: {instanceId: i-1, documentName: D, documentVersion: $DEFAULT}",
        "action: RunCommand, inputs: {instanceId: i, documentName: D, parameters: {commands: ['$.x {{ y }}']}}",
        "action: RunCommand, inputs: {instanceId: i, documentName: D, parameters: {a.$: $.imagebuilder.s3Logs}}",
        "action: RunCommand, inputs: {instanceId: i-1, documentName: D, parameters: {a: one, b: [true, 5]}}",
        "action: ExecuteStateMachine, inputs: {stateMachineArn: a, input: {a: [1, {b.$: $.workflowOutputs.c}]}}",
        "action: LaunchInstance, inputs: {waitFor: ssmAgent, instanceTypesOverride: one}",
        "action: RegisterImage, inputs: {blockDeviceMapping: [{Ebs: {SnapshotId.$: $.stepOutputs.Launch.s}}]}",
        "action: TerminateInstance, inputs: {instanceId: i-1, waitForTermination: 'TRUE'}",
        "action: WaitForAction, timeoutSeconds: 604800, rollbackEnabled: $.imagebuilder.terminateInstanceOnFailure",
        "action: WaitForAction, if: [{not: [{stringEquals: a, value: b}]}]",
        "action: WaitForAction, if: {and: [{and: [{not: {numberEquals: 1, value: '1'}}]}]}",
    ],
)  # fmt: skip
def test_accepted_steps(keys: str) -> None:
    """What published documents use passes: missing inputs, literals under `.$`, bare paths, unknown outputs."""
    assert codes(only_step(f"name: Only, {keys}")) == []


def test_conditions_have_four_levels_and_ten_operands() -> None:
    """The deepest comparison stands on level 4; the eleventh child is one too many."""
    leaf = "{stringEquals: a, value: b}"
    fifth = f"if: {{and: [{{or: [{{not: {{and: [{leaf}]}}}}]}}]}}"
    assert codes(only_step(f"name: Only, action: WaitForAction, {fifth}")) == ["condition-depth"]
    for count, expected in ((10, []), (11, ["condition-shape"])):
        children = ", ".join([leaf] * count)
        parsed = only_step(f"name: Only, action: WaitForAction, if: {{or: [{children}]}}")
        assert codes(parsed) == expected


def test_a_comparison_that_must_fail_is_a_warning() -> None:
    """A literal that is no number fails the step, not the document; the author is told."""
    parsed = only_step("name: Only, action: WaitForAction, if: {numberEquals: abc, value: 1}")
    assert parsed.document is not None
    assert [problem.severity for problem in parsed.problems] == ["warning"]


def test_names_are_unique() -> None:
    """Two steps, parameters or outputs of one name are refused."""
    twice = "[{name: aaa, type: string}, {name: aaa, type: string}]"
    assert codes(parse_workflow(document_of(LAUNCH, LAUNCH), "BUILD")) == ["duplicate-name"]
    assert codes(parse_workflow(document_of(LAUNCH, before=f"parameters: {twice}\n"), "BUILD")) == [
        "duplicate-name"
    ]
    outputs = "outputs: [{name: a, value: b}, {name: a, value: c}]\n"
    assert codes(parse_workflow(document_of(LAUNCH, before=outputs), "BUILD")) == ["duplicate-name"]


@pytest.mark.parametrize("name", ["ab", "1abc", "a b c", "x" * 129, "abc.d"])
def test_names_of_steps(name: str) -> None:
    """A step's name has 3 to 128 letters, digits, '-' or '_', a letter first."""
    assert "wrong-name" in codes(only_step(f"name: '{name}', action: WaitForAction"))


@pytest.mark.parametrize(
    ("declaration", "default"),
    [
        ("type: string, default: ''", [""]),
        ("type: string, default: 1.10", ["1.10"]),
        ("default: x, description: ''", ["x"]),
        ("type: integer, default: 5", ["5"]),
        ("type: boolean, default: True", ["true"]),
        ("type: stringList, default: [a, b]", ["a", "b"]),
        ("type: stringList, default: []", []),
    ],
)
def test_defaults_of_parameters(declaration: str, default: list[str]) -> None:
    """A default has the type of its parameter and is shown as a list of strings; a missing type is string."""
    text = document_of(LAUNCH, before=f"parameters: [{{name: p, {declaration}}}]\n")
    document = parse_workflow(text, "BUILD").document
    assert document is not None
    assert document.parameters[0].has_default
    assert default_texts(document.parameters[0]) == default


@pytest.mark.parametrize(
    "declaration",
    ["type: integer, default: x", "type: boolean, default: yes", "type: stringList, default: a", "type: list",
     "type: string, default: [a]", "type: string, value: a", "description: ['a']",
     f"default: {'x' * 1025}", f"type: stringList, default: [{'x' * 1025}]"],
)  # fmt: skip
def test_wrong_parameters(declaration: str) -> None:
    """A default of another type, an unknown type and unknown keys are refused."""
    text = document_of(LAUNCH, before=f"parameters: [{{name: p, {declaration}}}]\n")
    assert parse_workflow(text, "BUILD").document is None


def test_images_come_from_a_distribute_step() -> None:
    """`distributedImages` is a path to a DistributeImage step before, and nothing else."""
    first = "name: Spread, action: DistributeImage"
    for value, code in (
        ("distributedImages.$: $.stepOutputs.Spread.distributedImages", None),
        ("distributedImages.$: $.parameters.p", "wrong-images"),
        ("distributedImages: []", "wrong-input"),
        ("distributedImages.$: literal", "wrong-input"),
        ("distributedImages.$: $.stepOutputs.First.action", "wrong-images"),
    ):
        text = document_of(
            "name: First, action: WaitForAction",
            first,
            f"name: Mod, action: ModifyImageAttributes, inputs: {{{value}}}",
            before="parameters: [{name: p}]\n",
        )
        assert codes(parse_workflow(text, "DISTRIBUTION")) == ([] if code is None else [code]), value


def test_regions_stand_once() -> None:
    """Two entries of one Region are refused, and so is an entry without one."""
    for entries in ("[{region: a}, {region: a}]", "[{name: x}]"):
        parsed = only_step(
            f"name: Only, action: DistributeImage, inputs: {{distributions: {entries}}}", kind=TYPES[2]
        )
        assert "wrong-input" in codes(parsed) or "missing-input" in codes(parsed)


def test_types_of_unquoted_values() -> None:
    """Only true, false and decimal numbers are typed; dates, yes and octals stay texts."""
    parsed = only_step(
        "name: Only, action: ExecuteStateMachine, inputs: {stateMachineArn: 1.10, input: "
        "{a: yes, b: 2026-01-01, c: 0777, d: True, e: 5, f: '5', g: -1.5, h: 1e3, i: ~, j: 0}}"
    )
    assert parsed.document is not None
    assert parsed.document.steps[1].inputs == {
        "stateMachineArn": "1.10",
        "input": {
            "a": "yes",
            "b": "2026-01-01",
            "c": "0777",
            "d": True,
            "e": 5,
            "f": "5",
            "g": -1.5,
            "h": "1e3",
            "j": 0,
        },
    }


_DEFECTS = {
    # code of the problem: where it goes, and how it is written; in the order of the checks (spec/workflows.md 2.6)
    "unknown-key": ("top", "version: 1\n"),
    "schema-version": ("version", "2.0"),
    "too-many": ("top", "outputs: [" + ", ".join(f"{{name: o{number}, value: x}}" for number in range(26)) + "]\n"),
    "wrong-stage": ("step", "name: Push, action: DistributeImage"),
    "missing-input": ("step", "name: Make, action: CreateImage"),
    "wrong-value": ("step", "name: Ignoring, action: WaitForAction, onFailure: Ignore"),
    "condition-shape": ("step", "name: Never, action: WaitForAction, if: {and: []}"),
    "undefined-variable": ("step", "name: Odd, action: WaitForAction, inputs: {payload.$: $.imagebuilder.odd}"),
}


@settings(deadline=None)
@given(st.sets(st.sampled_from(list(_DEFECTS)), min_size=1))
def test_all_problems_are_told_and_the_first_check_speaks_first(defects: set[str]) -> None:
    """Every problem is there, in order of place; the API's sentence is that of the first check that fails."""
    found = {place: [text for code, (at, text) in _DEFECTS.items() if at == place and code in defects]
             for place in ("top", "version", "step")}  # fmt: skip
    text = document_of(LAUNCH, *found["step"], before="".join(found["top"]))
    parsed = parse_workflow(
        text.replace("schemaVersion: 1.0", f"schemaVersion: {(*found['version'], '1.0')[0]}"), "BUILD"
    )
    assert set(codes(parsed)) == defects
    assert parsed.first is not None
    assert parsed.first.code == next(code for code in _DEFECTS if code in defects)
    assert refusal(parsed.first).startswith("Invalid workflow document: line ")
    places = [problem.position for problem in parsed.errors if problem.position is not None]
    assert places == sorted(places)


_PIECES = [
    *"{}[]$.'\":,&*!-|> \nabcxyz019_",
    "name",
    "$.stepOutputs.Launch",
    "{{ $.parameters.x }}",
    "schemaVersion: 1.0\n",
]
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)
_KEYS = _TEXTS | st.sampled_from(["and", "not", "value"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)
_STEP_KEYS = ("name", "if", "inputs", "onFailure", "rollbackEnabled", "timeoutSeconds", "description", "action")
_INPUTS = sorted({spec.name for action in step_actions().values() for spec in action.inputs})


@settings(deadline=None)
@given(_TEXTS | st.binary(max_size=40))
@example("\x00")
@example(b"schemaVersion: 1.0\nname: \xff")
@example("name: \ud800")
@example("schemaVersion: 1.0\nsteps:\n- {name: [a], action: {b: c}}")
def test_no_text_is_a_traceback(text: str | bytes) -> None:
    """Whatever the text is, the answer is a document or problems."""
    parsed = parse_workflow(text, "BUILD")
    assert (parsed.document is None) == (parsed.first is not None)


@settings(deadline=None)
@given(
    keys=st.dictionaries(st.sampled_from(_STEP_KEYS), _VALUES),
    action=st.sampled_from(sorted(step_actions())),
    kind=st.sampled_from(TYPES),
    inputs=st.dictionaries(st.sampled_from([*_INPUTS, *(f"{name}.$" for name in _INPUTS)]), _VALUES),
)
def test_no_step_is_a_traceback(
    keys: dict[str, object], action: str, kind: WorkflowType, inputs: dict[str, object]
) -> None:
    """Whatever stands in a step, the answer is a document or problems that have places."""
    step = {"name": "Only", "action": action, "inputs": inputs, **keys}
    outputs = [{"name": "o", "value": keys}]
    parsed = parse_workflow(json.dumps({"schemaVersion": 1, "steps": [step], "outputs": outputs}), kind)
    assert (parsed.document is None) == (parsed.first is not None)
    assert all(problem.position is not None for problem in parsed.problems)


def test_inputs_know_their_members() -> None:
    """No action has two inputs of one name, and defaults are among the choices."""

    def check(specs: tuple[Input, ...]) -> None:
        assert len({spec.name for spec in specs}) == len(specs)
        for spec in specs:
            assert not spec.choices or spec.default is None or spec.default in spec.choices
            check(spec.members)

    for action in step_actions().values():
        assert action.default_timeout <= action.max_timeout
        check(action.inputs)


@pytest.mark.parametrize(
    "text",
    [
        "schemaVersion: 1.0\nparameters: [" + ",".join(f"{{name: p{number}}}" for number in range(900)) + "]\n"
        "steps:\n- {name: Abc, action: WaitForAction, inputs: {payload: '" + "{{ $.parameters.x }}" * 900 + "'}}",
        "schemaVersion: 1.0\nsteps:\n- {name: Abc, action: WaitForAction, inputs: {payload: '"
        + "{{ $" * 9000
        + "'}}",
        "schemaVersion: 1.0\nsteps:\n- {name: Abc, action: WaitForAction, inputs: {payload.$: '$"
        + ".a" * 9000
        + "'}}",
        "schemaVersion: 1.0\nsteps: [" + "{name: Abcd, action: Create}," * 1200 + "]",
    ],
    ids=["parameters", "braces", "path", "steps"],
)
@pytest.mark.timeout(20)
def test_hostile_documents_are_refused_soon(text: str) -> None:
    """Thousands of unknown names, braces or steps cost no more than the limits of a document allow."""
    parsed = parse_workflow(text, "BUILD")
    assert (parsed.document is None) == (parsed.first is not None)


@pytest.mark.parametrize(
    "text",
    [
        " $.imagebuilder.imageType",
        "imagebuilder.imageType",
        "$$.imagebuilder.imageType",
    ],
)
def test_a_text_that_was_meant_as_a_path_is_a_warning(text: str) -> None:
    """It is compared as it stands, so the step would be skipped in every run and nobody told."""
    parsed = only_step(f"name: Only, action: WaitForAction, if: {{stringEquals: DOCKER, value: '{text}'}}")
    assert parsed.document is not None
    assert [(problem.severity, problem.hint) for problem in parsed.problems] == [
        ("warning", "did you mean '$.imagebuilder.imageType'?")
    ]
