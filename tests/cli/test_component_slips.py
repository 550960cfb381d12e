"""Misspelt names in what `imagesmith component` is asked for are told with what was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imagesmith.cli.context import CommandFailed
from testing.component_support import bash, document, with_text

PARAMETERS = document(
    bash("echo {{ Port }} {{ Mode }}"),
    head="parameters:\n  - Port: {type: string}\n  - Mode: {type: string, default: a, allowedValues: [a, b]}\n",
)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["Port=1", "Prt=2"], "no document declares the parameter 'Prt'"),
        (["Port=1", "Port=2"], "the parameter 'Port' is given twice"),
        (["Port=1", "Mode=c"], "allowed values: a, b"),
        (["Mode=a"], "the parameter 'Port' has no default"),
        ([], "the parameter 'Port' has no default"),
    ],
)
def test_parameters_of_a_run_are_checked_before_it(invoke: Any, given: list[str], told: str) -> None:
    """Nothing runs with a value that nobody asked for, or without one that is needed."""
    options = [part for text in given for part in ("--param", text)]
    with pytest.raises(CommandFailed, match=told):
        invoke("run", "a.yml", *options, a=PARAMETERS)


def test_a_secret_is_a_parameter_as_well(invoke: Any) -> None:
    """A name stands once in both options together, and its value shows in no error."""
    with pytest.raises(CommandFailed, match="'Port' is given twice"):
        invoke("run", "a.yml", "--param", "Port=1", "--secret-param", "Port=2", a=PARAMETERS)
    with pytest.raises(CommandFailed) as refused:
        invoke("run", "a.yml", "--param", "Port=1", "--secret-param", "Mode=s3cr3t", a=PARAMETERS)
    assert "s3cr3t" not in str(refused.value)


def test_problems_are_in_the_json(invoke: Any) -> None:
    """Errors and warnings of a document, with their places, from validate and from run."""
    warned = with_text("echo {{ parameters.Port }}")
    for command in ("validate", "run"):
        answer = json.loads(invoke(command, "a.yml", "--json", a=warned).stdout)
        (problem,) = answer["problems"]
        assert (problem["file"], problem["severity"], problem["code"]) == ("a.yml", "warning", "unknown-reference")
        refused = json.loads(
            invoke(command, "a.yml", "--json", a=warned.replace("ExecuteBash", "ExecuteBsh")).stdout
        )
        assert {"unknown-action"} < {item["code"] for item in refused["problems"]}
    assert "warning: unknown-reference" in invoke("validate", "a.yml", a=warned).output


def test_a_phase_that_is_asked_for_and_not_there_is_told(invoke: Any) -> None:
    """As in the service nothing runs and all is well, but the misspelling is said."""
    ran = invoke("run", "a.yml", "--phases", "biuld", a=document(bash("true")))
    assert ran.exit_code == 0 and "warning: no document has the phase 'biuld' (did you mean 'build'?)" in ran.output
