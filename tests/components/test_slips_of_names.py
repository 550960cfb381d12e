"""Names that were misspelt: references, phases, digests and tags are told with what was meant
(spec/components.md 2.9, 4.6)."""

from __future__ import annotations

import json

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.components.parsed import folded_message
from testing.component_support import bash, document, one_step, with_text


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ("build.Kernel.output.stdout", "build.Kernel.outputs.stdout"),
        ("build.Kernel.Outputs.stdout", "build.Kernel.outputs.stdout"),
        ("build.Kernel.ouputs.stdout", "build.Kernel.outputs.stdout"),
        ("build.Kernel.output[0].stdout", "build.Kernel.outputs[0].stdout"),
        ("build.Kernel.input.commands", "build.Kernel.inputs.commands"),
        ("Kernel.outputs.stdout", "build.Kernel.outputs.stdout"),
        ("Kernel.output.stdout", "build.Kernel.outputs.stdout"),
        ("build.Kernel.stdout", "build.Kernel.outputs.stdout"),
        ("Kernel.stdout", "build.Kernel.outputs.stdout"),
        ("$.stepOutputs.Kernel.stdout", "build.Kernel.outputs.stdout"),
        ("parameters.Port", "Port"), ("parameter.Port", "Port"), ("$.parameters.Port", "Port"),
        ("params.port", "Port"), ("constants.Home", "Home"), ("$Port", "Port"),
        ("loop.idx", "loop.index"), ("loop.Index", "loop.index"), ("loop.item", "loop.value"),
        ("Loop.value", "loop.value"), ("each.val", "each.value"), ("eech.value", "each.value"),
        ("Env:HOME", "env:HOME"), ("env.HOME", "env:HOME"), ("ENV:HOME", "env:HOME"),
        ("context.phase", "context:phase"), ("contxt:phase", "context:phase"),
        ("aws:smm:/a/b", "aws:ssm:/a/b"), ("aws.ssm:/a/b", "aws:ssm:/a/b"),
        ("aws:imd:instance-id", "aws:imds:instance-id"),
    ],
)  # fmt: skip
def test_a_misspelt_reference_is_a_warning_with_its_place(body: str, meant: str) -> None:
    """The document stays usable, because the text could be meant for another program."""
    parsed = parse_component(with_text(f"echo {{{{ {body} }}}}"))
    assert parsed.document is not None, parsed.errors
    (problem,) = parsed.problems
    assert (problem.code, problem.severity) == ("unknown-reference", "warning")
    assert problem.hint == f"did you mean '{{{{ {meant} }}}}'?"
    assert problem.position is not None and problem.position.column == 21
    assert problem.render("a.yml").startswith(f"a.yml:{problem.position.line}:21 warning: unknown-reference ")


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("aws:secretsmanager:db", "{{ aws:ssm:/aws/reference/secretsmanager/NAME }}"),
        ("resolve:ssm:/a/b", "the Parameter Store is 'aws:ssm:'"),
        ("resolve:secretsmanager:db", "{{ aws:ssm:/aws/reference/secretsmanager/NAME }}"),
        ("aws:ssm", "known: aws:ssm:NAME, aws:imds:PATH"),
        ("aws:region", "known: aws:ssm:NAME, aws:imds:PATH"),
        ("aws:ssm:/a/{{ Port }}", "{{ aws:ssm:resolve(NAME) }} reads the stored parameter"),
        ("env:{{ Port }}", "{{ aws:ssm:resolve(NAME) }} reads the stored parameter"),
    ],
)
def test_a_value_of_the_service_that_cannot_be_read_is_a_warning(body: str, hint: str) -> None:
    """Prefixes that CloudFormation and others have, and a name that is put together by another reference."""
    parsed = parse_component(with_text(f"echo {{{{ {body} }}}}"))
    assert parsed.document is not None
    (problem,) = parsed.problems
    assert (problem.code, problem.severity) == ("unknown-reference", "warning")
    assert hint in problem.hint


def test_an_unknown_phase_of_a_reference_is_an_error_with_what_was_meant() -> None:
    """The form is that of a reference, so it can mean nothing else."""
    (problem,) = parse_component(with_text("{{ steps.Kernel.outputs.stdout }}")).errors
    assert problem.hint == "did you mean '{{ build.Kernel.outputs.stdout }}'?"


@pytest.mark.parametrize(
    "text",
    [
        "docker ps --format '{{ .Names }}'", "docker inspect -f '{{.State.Running}}' x", "{{ json . }}", "{{ . }}",
        "{{ item.name }}", "{{ ansible_facts.os_family }}", "{{ x | default('a') }}", "{{ range .Items }}{{ end }}",
        "{{ loop.index0 if x }}", "{{ user.email }}", "{{#if a}}", "{{/if}}", "{{ $labels.instance }}",
        "{{ $value }}", "{{ site.title }}", "{{ include 'a' . }}", "{{{ imagebuilder:components }}}",
        "{{ config.home.dir }}", "{{ forms.name.errors }}", "${{ github.sha }}", "{{ .Values.image.tag }}",
    ],
)  # fmt: skip
def test_braces_of_other_programs_pass_without_a_word(text: str) -> None:
    """docker, Go, Jinja, Helm, Liquid, Handlebars, Prometheus, GitHub."""
    assert [
        problem.render("a.yml") for problem in parse_component(with_text(json.dumps(text)[1:-1])).problems
    ] == []


def test_a_no_break_space_in_a_reference_is_told() -> None:
    """It looks like the real one."""
    (problem,) = parse_component(with_text("echo {{\u00a0Port\u00a0}}")).problems
    assert "no-break space" in problem.message and problem.hint == "write {{ Port }}"


@pytest.mark.parametrize(
    "text", ["{{ Port }}", "{{ aws:ssm:/a }}", "{{ env:HOME }}", "{{ build.A.outputs.stdout }}"]
)
def test_defaults_and_constants_are_not_replaced(text: str) -> None:
    """A reference there is a warning, as it is never replaced."""
    head = f"parameters:\n  - Port: {{type: string}}\nconstants:\n  - Const: {{type: string, value: '{text}'}}\n"
    (problem,) = parse_component(document(bash("true"), head=head)).problems
    assert (problem.code, problem.severity) == ("unreplaced-reference", "warning")
    assert problem.position is not None and problem.position.line == 5


@pytest.mark.parametrize(
    ("item", "quoted"),
    [("! grep -q x /etc/y", "'! grep -q x /etc/y'"), ("!grep x", "'!grep x'"), ("! 'test -f /x'", "'! test -f /x'"),
     ("!!binary aGk=", ""), ("!!set {a}", ""), ("!", "'!'")],
)  # fmt: skip
def test_an_exclamation_mark_at_the_beginning_is_refused(item: str, quoted: str) -> None:
    """YAML takes it as a tag: the check would be turned around in silence."""
    text = document(bash("true")).replace('"true"', item)
    (problem, *_) = parse_component(text).errors
    assert (problem.code, problem.position and problem.position.line) == ("yaml-tag", 9)
    assert quoted in problem.hint


def test_standard_tags_keep_the_text() -> None:
    """`!!str` makes a text of what would be nothing."""
    parsed = parse_component(document(bash("true")).replace('"true"', "!!str null"))
    assert parsed.document is not None
    assert parsed.document.phases[0].steps[0].inputs == {"commands": ["null"]}


@pytest.mark.parametrize(
    ("more", "severity", "hint"),
    [
        ({"checksum": "a" * 64}, "warning", "a digest of this length has 'algorithm: SHA256'"),
        ({"checksum": "a" * 63}, "warning", "add the 'algorithm' of the digest"),
        ({"algorithm": "SHA256"}, "warning", "add the digest"),
        ({"checksum": "a" * 40, "algorithm": "SHA256"}, "error", "'algorithm: SHA1'"),
        ({"checksum": "sha256:" + "a" * 64, "algorithm": "SHA256"}, "error", "write the digits only"),
        ({"checksum": "x" * 64, "algorithm": "sha256"}, "error", "write the digits only"),
        ({"checksum": "A" * 64, "algorithm": "sha256"}, "", ""),
        ({"checksum": "{{ env:SUM }}", "algorithm": "sha256"}, "", ""),
    ],
)
def test_a_digest_that_verifies_nothing_is_told(more: dict[str, str], severity: str, hint: str) -> None:
    """One of the two alone is a warning; a digest that can never match is an error."""
    inputs = [{"source": "https://example.com/a", "destination": "/a", **more}]
    problems = parse_component(one_step("WebDownload", inputs)).problems
    assert [problem.severity for problem in problems] == [severity] * bool(severity)
    assert all(("failed" in problem.message) == (severity == "error") for problem in problems)
    assert all(hint in problem.hint for problem in problems)


@pytest.mark.parametrize(
    ("phase", "hint"),
    [
        ("Test", "did you mean 'test'?"), ("tests", "did you mean 'test'?"), ("verify", "did you mean 'validate'?"),
        ("BUILD", "did you mean 'build'?"), ("biuld", "did you mean 'build'?"),
        ("install", "did you mean 'build'?"),
        ("cleanup", "clean up in the last step of 'build'"), ("other", "when ExecuteDocument names it"),
        ("container-host-test", "move its steps to the phase 'test'"),
    ],
)  # fmt: skip
def test_a_phase_that_no_build_runs_is_a_warning(phase: str, hint: str) -> None:
    """The phase is named, with what was probably meant."""
    more = document(bash("true"), phase=phase).split("phases:\n")[1]
    parsed = parse_component(document(bash("true")) + more)
    assert parsed.document is not None
    (problem,) = parsed.problems
    assert (problem.code, problem.severity) == ("idle-phase", "warning")
    assert f"'{phase}'" in problem.message and hint in problem.hint
    assert parse_component(document(bash("true")) + more, stages_required=False).problems == ()


def test_errors_of_the_api_keep_their_hints() -> None:
    """CreateComponent answers with one sentence that holds them."""
    told = folded_message(parse_component(document(bash("true")).replace("ExecuteBash", "ExecuteBsh")).problems)
    assert told.endswith("(hint: did you mean 'ExecuteBash'?)")
