"""Shell scripts as component documents."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.components.grammar import parse_component
from imagesmith.components.shell_documents import ScriptRefused, shell_document
from imagesmith.values.diagnostics import errors_of


def script_of(text: str, platform: str = "Linux") -> tuple[str, str, str]:
    """Phase, action and script of the only step, after constants are inserted."""
    parsed = parse_component(text, platform=platform)
    assert parsed.document is not None and not errors_of(parsed.problems), parsed.problems
    [phase] = parsed.document.phases
    [step] = phase.steps
    assert isinstance(step.inputs, dict)
    [command] = step.inputs["commands"]
    values = {constant.name: constant.value for constant in parsed.document.constants}
    return phase.name, step.action, values["Script"] if values else str(command)


@pytest.mark.parametrize(
    ("platform", "type", "expected"),
    [
        ("Linux", "BUILD", ("build", "ExecuteBash")),
        ("macOS", "TEST", ("test", "ExecuteBash")),
        ("Windows", "BUILD", ("build", "ExecutePowerShell")),
        ("Windows", "TEST", ("test", "ExecutePowerShell")),
    ],
)
def test_platform_and_type_choose_action_and_phase(
    platform: str, type: Literal["BUILD", "TEST"], expected: tuple[str, str]
) -> None:
    """One step that runs the whole script."""
    text = shell_document("echo 1\necho 2\n", platform=platform, type=type)
    assert script_of(text, platform) == (*expected, "echo 1\necho 2\n")


def test_a_script_is_a_block_that_people_read() -> None:
    """The lines of the script are lines of the document, below its description."""
    text = shell_document("#!/bin/sh\necho hello\n", platform="Linux", type="BUILD", description="Says: hello")
    assert text.startswith("description: 'Says: hello'\nschemaVersion: 1.0\n")
    assert "- |\n        #!/bin/sh\n        echo hello\n" in text


@pytest.mark.parametrize(
    "script",
    [
        "docker inspect -f '{{ .Id }}' x",
        "echo {{ name }} {{context:date}} {{ aws:ssm:/secret }}\n",
        "  leading blanks\n\ttab\ntrailing  \n",
        "a\r\nb\r\n",
        "echo 'ä 😀 \u2028 \x07'",
        "# comment: [x] {y} & *z | > ' \" % @ `\n---\n...\n",
        "no: line end",
    ],
)
def test_a_script_stays_byte_for_byte(script: str) -> None:
    """Blanks, line ends, what YAML and what this language would read otherwise."""
    assert script_of(shell_document(script, platform="Linux", type="BUILD"))[2] == script


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda text: text.strip()))
def test_any_script_stays_byte_for_byte(script: str) -> None:
    """Whatever its characters are."""
    try:
        text = shell_document(script, platform="Windows", type="TEST")
    except ScriptRefused:
        return
    assert script_of(text, "Windows")[2] == script


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("#!/usr/bin/python3\nprint(1)", "python3"),
        ("#! /usr/bin/env perl -w\n", "perl"),
        ("#!/usr/bin/env -S node --x\n", "node"),
    ],
)
def test_a_script_that_bash_would_not_run_as_written_is_refused(script: str, told: str) -> None:
    """An empty one, and one whose first line names another language."""
    with pytest.raises(ScriptRefused) as refusal:
        shell_document(script, platform="Linux", type="BUILD")
    assert told in str(refusal.value)


@pytest.mark.parametrize("line", ["#!/bin/bash -e", "#!/usr/bin/env bash", "#! /bin/sh", "#!/bin/dash\r", "# !x"])
def test_scripts_of_shells_are_taken(line: str) -> None:
    """Their first line may name sh, bash or dash, with or without env."""
    script = f"{line}\necho 1\n"
    assert script_of(shell_document(script, platform="Linux", type="BUILD"))[2] == script
