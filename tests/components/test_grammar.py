"""Reading documents: every rule of the schema as a problem with its place (spec/components.md 2, 3, 4.6)."""

from __future__ import annotations

import json
import time

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.components.model import component_type, parameter_details
from imagesmith.components.parsed import folded_message
from testing.component_support import bash, document

GOOD = document(bash("true"))


def codes(text: str, **more: object) -> list[tuple[str, int, int]]:
    """Code, line and column of every problem."""
    parsed = parse_component(text, **more)  # type: ignore[arg-type]
    assert (parsed.document is None) == bool(parsed.errors)
    return [
        (
            problem.code,
            problem.position.line if problem.position else 0,
            problem.position.column if problem.position else 0,
        )
        for problem in parsed.problems
    ]


def step(inputs: str, action: str = "ExecuteBash", more: str = "") -> str:
    return document(f"      - name: Step\n        action: {action}\n{more}        inputs:{inputs}\n")


def test_a_good_document_has_no_problem() -> None:
    """A correct document is read without a word."""
    assert codes(GOOD) == []


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [("yaml-empty", 0, 0)]),
        ("- a", [("wrong-type", 1, 1)]),
        ("a: [", [("yaml-syntax", 2, 1)]),
        ("a: b\n---\nc: d", [("yaml-many-documents", 2, 1)]),
        (GOOD.replace("1.0", "2.0"), [("schema-version", 1, 16)]),
        (GOOD.replace("schemaVersion: 1.0\n", ""), [("missing-key", 1, 1)]),
        (GOOD + "extra: 1\n", [("unknown-key", 10, 1)]),
        (GOOD + "name: a\nname: b\n", [("yaml-duplicate-key", 11, 1)]),
        ("schemaVersion: 1\nphases: []", [("no-phases", 2, 9)]),
        ("schemaVersion: 1\nphases:", [("missing-key", 2, 1)]),
        ("schemaVersion: 1\nphases: text", [("wrong-type", 2, 9)]),
        ("schemaVersion: 1\nphases: [text]", [("wrong-type", 2, 10), ("no-stage-phase", 2, 9)][::-1]),
        ("schemaVersion: 1\nphases: [{name: build, steps: []}]", [("no-steps", 2, 31)]),
        (GOOD.replace("build", "other"), [("no-stage-phase", 3, 3)]),
        (GOOD.replace("build", "ab"), [("wrong-name", 3, 11), ("no-stage-phase", 3, 3)][::-1]),
        (GOOD.replace("name: Step", "name: ab"), [("wrong-name", 5, 15)]),
        (GOOD.replace("name: Step", "name: a b c"), [("wrong-name", 5, 15)]),
        (GOOD.replace("name: Step", "nome: Step"), [("unknown-key", 5, 9), ("missing-key", 5, 9)]),
        (document(bash("true"), bash("true")), [("duplicate-name", 10, 9)]),
        (GOOD + "  - name: build\n    steps:\n" + bash("true"), [("duplicate-name", 10, 5)]),
        (document(bash("true", extra="onFailure: abort")), [("wrong-value", 7, 20)]),
        (document(bash("true", extra="timeoutSeconds: 0")), [("wrong-value", 7, 25)]),
        (document(bash("true", extra="timeoutSeconds: -2")), [("wrong-value", 7, 25)]),
        (document(bash("true", extra="timeoutSeconds: ten")), [("wrong-type", 7, 25)]),
        (document(bash("true", extra="maxAttempts: 0")), [("wrong-value", 7, 22)]),
        (document(bash("true", extra="disableLogging: yes")), [("wrong-type", 7, 25)]),
        (document(bash("true", extra="if: [a]")), [("wrong-type", 7, 13)]),
        (document(bash("true", extra="loop: {}")), [("loop-kind", 7, 15)]),
        (
            document(bash("true", extra="loop: {for: {start: 1, end: 3, updateBy: -1}}")),
            [("loop-bounds", 7, 21)],
        ),
        (document(bash("true", extra="loop: {for: {start: 1, end: 3, updateBy: 0}}")), [("loop-bounds", 7, 21)]),
        (
            document(bash("true", extra="loop: {for: {start: 1, end: x}}")),
            [("missing-key", 7, 21), ("wrong-type", 7, 37)],
        ),
        (
            document(bash("true", extra='loop: {forEach: {list: "x", delimiter: "::"}}')),
            [("loop-delimiter", 7, 48)],
        ),
        (document(bash("true", extra="loop: {name: loop, forEach: [a]}")), [("wrong-name", 7, 22)]),
        (document(bash("true", extra="loop: {forEach: [a], while: b}")), [("unknown-key", 7, 30)]),
        (step(""), [("no-inputs", 5, 9)]),
        (step(" {}"), [("no-inputs", 7, 17)]),
        (step(" {commands: ls}"), [("wrong-type", 7, 28)]),
        (step(" {commands: []}"), [("wrong-value", 7, 28)]),
        (step(" {commands: [{a: b}]}"), [("wrong-type", 7, 29)]),
        (step(" {comands: [a]}"), [("missing-key", 7, 17), ("unknown-input", 7, 18)]),
        (step(" [{commands: [a]}]"), [("wrong-type", 7, 17)]),
        (step(" [{path: a}]", "CreateFil"), [("unknown-action", 6, 17)]),
        (step(" [{path: a}]", "createFile"), [("unknown-action", 6, 17)]),
        (step(" [{path: a, permissions: 0999}]", "CreateFile"), [("wrong-value", 7, 41)]),
        (step(" [{path: a, overwrite: maybe}]", "CreateFile"), [("wrong-value", 7, 39)]),
        (step(" [{path: a, encoding: latin1}]", "CreateFile"), [("wrong-value", 7, 38)]),
        (step(" [{path: a}, {}]", "CreateFile"), [("missing-key", 7, 29)]),
        (step(" text", "CreateFile"), [("wrong-type", 7, 17)]),
        (step(" {document: a}", "ExecuteDocument", "        maxAttempts: 2\n"), [("wrong-value", 7, 22)]),
        (step(" {document: a}", "ExecuteDocument", "        timeoutSeconds: 5\n"), [("wrong-value", 7, 25)]),
        (step(" {delaySeconds: -1}", "Reboot"), [("wrong-value", 7, 32)]),
        (step(" [{stringIsEmpty: a}]", "Assert"), [("wrong-type", 7, 17)]),
        (step(" {stringIsEmpty: a, then: Skip}", "Assert"), [("condition-key", 7, 36)]),
    ],
)
def test_problems(text: str, problems: list[tuple[str, int, int]]) -> None:
    """Each defect is found at its place."""
    assert sorted(codes(text)) == sorted(problems)


@pytest.mark.parametrize(
    ("head", "problems"),
    [
        ("parameters:\n  - name: X\n    type: string\n", [("declaration-shape", 3, 5)]),
        ("parameters:\n  - One: {type: integer}\n", [("wrong-value", 3, 17)]),
        ("parameters:\n  - One: {type: String}\n", []),
        ("parameters:\n  - One: {}\n", [("missing-key", 3, 10)]),
        ("parameters:\n  - One: text\n", [("declaration-shape", 3, 10)]),
        ("parameters:\n  - ab: {type: string}\n", [("wrong-name", 3, 5)]),
        ("parameters:\n  - One: {type: string, allowedValues: [a], default: b}\n", [("wrong-value", 3, 54)]),
        ("parameters:\n  - One: {type: string}\n  - One: {type: string}\n", [("duplicate-name", 4, 5)]),
        (
            "parameters:\n  - One: {type: string}\nconstants:\n  - One: {type: string, value: 1}\n",
            [("duplicate-name", 5, 5)],
        ),
        ("constants:\n  - One: {type: string}\n", [("missing-key", 3, 10)]),
        ("constants:\n  - One: {type: string, value: 012}\n", []),
    ],
)
def test_declarations(head: str, problems: list[tuple[str, int, int]]) -> None:
    """Parameters and constants have one shape and one namespace."""
    assert codes(document(bash("true"), head=head)) == problems


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("{{ Nope }}", "undefined-reference"),
        ("{{Nope}}", "undefined-reference"),
        ("{{ build.Nope.outputs.stdout }}", "undefined-reference"),
        ("{{ nope.Step.inputs.commands }}", "undefined-reference"),
        ("{{ build.First.outputs.nope }}", "undefined-reference"),
        ("{{ build.First.outputs }}", "malformed-reference"),
        ("{{ build.Step.outputs.stdout }}", "forward-reference"),
        ("{{ build.Last.outputs.stdout }}", "forward-reference"),
        ("{{ context:nope }}", "malformed-reference"),
        ("{{ aws:imds:iam/security-credentials/x }}", "malformed-reference"),
        ("{{ aws:imds:identity-credentials/ec2/info }}", "malformed-reference"),
        ("{{ aws:ssm: }}", "malformed-reference"),
        ("{{ aws:ssm:resolve(Nope) }}", "undefined-reference"),
        ("{{ env: }}", "malformed-reference"),
    ],
)
def test_bad_references(reference: str, code: str) -> None:
    """A reference that names nothing is an error at the reference itself."""
    text = document(bash("true", name="First"), bash(f"echo {reference}", name="Step"), bash("true", name="Last"))
    assert codes(text) == [(code, 14, 21)]


@pytest.mark.parametrize(
    "reference",
    [
        "{{ One }}",
        "{{One}}",
        "{{ build.First.outputs.stdout }}",
        "{{ build.First.outputs[0].stdout }}",
        "{{ build.Last.inputs.commands }}",
        "{{ loop.index }}",
        "{{ any.value }}",
        "{{ .Foo }}",
        "{{ json . }}",
        "{{ x | y }}",
        "{{ unterminated",
        "{{{ imagebuilder:parentImage }}}",
        "{{ imagebuilder:buildDate }}",
        "{{ aws:ssm:/path/name }}",
        "{{ aws:ssm:resolve(One) }}",
        "{{ aws:ssm:resolve(aws:ssm:/a) }}",
        "{{ aws:imds:instance-id }}",
        "{{ context:uuid }}",
        "{{ env:ProgramFiles(x86) }}",
        "{{}}",
        "{{ }}",
    ],
)
def test_good_references(reference: str) -> None:
    """References that resolve, and braces of other languages, are accepted."""
    head = "parameters:\n  - One: {type: string}\n"
    text = document(
        bash("true", name="First"), bash(f"echo {reference}", name="Step"), bash("true", name="Last"), head=head
    )
    assert codes(text) == []


def test_reference_place_in_a_block() -> None:
    """A reference inside a block of several lines is reported on its own line."""
    text = step("\n          commands:\n            - |\n              one\n              {{ Nope }}")
    assert [place[:2] for place in codes(text)] == [("undefined-reference", 11)]


def test_all_problems_at_once() -> None:
    """One reading shows every problem, in the order of the text."""
    text = GOOD.replace("1.0", "3").replace("ExecuteBash", "ExecuteBsh") + "bad: 1\n"
    parsed = parse_component(text)
    assert [problem.code for problem in parsed.problems] == ["schema-version", "unknown-action", "unknown-key"]
    assert parsed.problems[1].hint == "did you mean 'ExecuteBash'?"
    assert folded_message(parsed.problems) == (
        "Failed to parse document. Error: line 1: document: schemaVersion '3' is not supported (hint: use 1.0); "
        "line 6: Parsing step 'Step' in phase 'build' failed. Error: there is no action 'ExecuteBsh' "
        "(hint: did you mean 'ExecuteBash'?); line 10: document: unknown key 'bad' (hint: known here: constants, "
        "description, disableLogging, name, parameters, phases, schemaVersion)"
    )


def test_known_message_texts() -> None:
    """The texts that are known from the service are used word for word."""
    assert parse_component("schemaVersion: 1\nphases: []").problems[0].message == (
        "Document has 0 phases. Phases list must not be empty."
    )
    assert parse_component(step(" []", "CreateFile")).problems[0].message == (
        "Parsing step 'Step' in phase 'build' failed. Error: "
        "Action CreateFile has no inputs; it requires an 'inputs'"
    )


def test_unknown_input_is_only_a_warning() -> None:
    """An unknown key inside inputs does not make a document unusable."""
    parsed = parse_component(step(" [{path: a, force: true}]", "DeleteFile"))
    assert parsed.document is not None
    assert [(problem.code, problem.severity) for problem in parsed.problems] == [("unknown-input", "warning")]


def test_platforms() -> None:
    """A document is checked for one platform."""
    assert codes(GOOD, platform="Windows") == [("wrong-platform", 6, 17)]
    assert codes(GOOD, platform="macOS") == []
    owner = step(" [{path: a, owner: b}]", "CreateFile")
    assert codes(owner, platform="Windows") == [("wrong-platform", 7, 28)]


def test_blocked_actions() -> None:
    """A blocked action is an error."""
    assert codes(GOOD, blocked=frozenset({"ExecuteBash"})) == [("blocked-action", 6, 17)]


def test_optional_inputs() -> None:
    """Reboot and UpdateOS do without inputs, in every way to leave them out."""
    for inputs in ("", "\n        inputs:", "\n        inputs: {}"):
        for action in ("Reboot", "UpdateOS"):
            assert codes(document(f"      - name: Step\n        action: {action}{inputs}\n")) == []


def test_json_is_accepted() -> None:
    """A JSON text is a document."""
    content = {
        "schemaVersion": "1.0",
        "phases": [
            {
                "name": "test",
                "steps": [{"name": "One", "action": "ExecuteBash", "inputs": {"commands": ["a/b \u00e9"]}}],
            }
        ],
    }
    parsed = parse_component(json.dumps(content))
    assert parsed.document is not None
    assert component_type(parsed.document) == "TEST"


def test_types() -> None:
    """Only a lone test phase makes a TEST component."""
    both = GOOD.replace("build", "validate") + "  - name: test\n    steps:\n" + bash("true")
    parsed = parse_component(both)
    assert parsed.document is not None
    assert component_type(parsed.document) == "BUILD"


def test_parameter_details() -> None:
    """Parameters are told as the API shows them, absent members left out."""
    head = "parameters:\n  - One: {type: string, default: 1.0, description: text}\n  - Two: {type: string}\n"
    parsed = parse_component(document(bash("true"), head=head))
    assert parsed.document is not None
    assert parameter_details(parsed.document) == [
        {"name": "One", "type": "string", "defaultValue": ["1.0"], "description": "text"},
        {"name": "Two", "type": "string"},
    ]


def test_indented_and_merged_texts() -> None:
    """A text indented as a whole, with anchors and merge keys, is read."""
    text = "\n".join(f" {line}" for line in GOOD.splitlines())
    assert codes(text) == []
    anchors = document(
        "      - &a\n        name: One\n        action: ExecuteBash\n        inputs: {commands: [a]}\n",
        "      - <<: *a\n        name: Two\n",
    )
    parsed = parse_component(anchors)
    assert parsed.document is not None
    assert parsed.document.phases[0].steps[1].inputs == {"commands": ["a"]}


def test_limits() -> None:
    """Over-long, over-deep and exploding texts are refused in no time."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    for text, code in (
        ("a: " + "x" * 70000, "document-too-long"),
        ("[" * 60000, "yaml-depth"),
        (bomb, "yaml-size"),
        ("a: &a [*a]", "yaml-alias"),
        (b"\xff\xfe", "text-encoding"),
        ("a: \ud800", "text-encoding"),
        ("a: \x00", "yaml-syntax"),
    ):
        started = time.thread_time()
        parsed = parse_component(text)
        assert [problem.code for problem in parsed.problems] == [code]
        assert time.thread_time() - started < 1


def test_a_document_of_the_longest_size_is_read() -> None:
    """64 KiB of steps are one valid document; benchmarks/component_steps.py says how long reading it takes."""
    text = document(
        *(bash("echo {{ One }}", name=f"Step{n}") for n in range(560)),
        head="constants: [{One: {type: string, value: a}}]\n",
    )
    assert 60000 < len(text) <= 65536
    assert codes(text) == []
