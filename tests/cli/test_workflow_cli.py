"""The commands `imagesmith workflow validate | plan | new`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.context import CommandFailed
from imagesmith.cli.main import commands
from imagesmith.managed.catalog import managed_workflow
from testing.workflow_samples import APPROVAL, LAUNCH, document_of

TAGS = "parameters: [{name: tags, type: stringList}, {name: size, type: integer, default: 3}]\n"
STEPS = (
    LAUNCH,
    "name: Skip, action: WaitForAction, if: {stringEquals: Windows, value: $.imagebuilder.platform}",
    "name: Run, action: RunCommand, inputs: {instanceId.$: $.stepOutputs.Launch.instanceId, "
    "documentName: 'D{{ $.parameters.size }}', parameters: {tags.$: $.parameters.tags}}",
    "name: Maybe, action: WaitForAction, if: {numberEquals: 1, value: '$.stepOutputs.Run.output[0]'}",
)
PLANNED = document_of(
    *STEPS, before=TAGS + "outputs: [{name: InstanceId, value: $.stepOutputs.Launch.instanceId}]\n"
)


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `imagesmith workflow` in a temporary folder with the given files."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **files: str) -> Result:
        for name, text in files.items():
            (tmp_path / f"{name}.yml").write_text(text)
        result = CliRunner().invoke(commands, ["workflow", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_validate_shows_every_problem_with_its_line(invoke: Any) -> None:
    """The line with a caret and a hint; the status tells the verdict over all files."""
    good = invoke("validate", "good.yml", good=APPROVAL)
    assert (good.exit_code, good.output) == (0, "Validation successful.\n")
    bad = invoke(
        "validate", "good.yml", "bad.yml", "--type", "build", bad=APPROVAL.replace("CreateImage", "MakeImage")
    )
    assert bad.exit_code == 1
    assert bad.output.splitlines() == [
        "bad.yml:22:13 unknown-action step 'Capture': there is no action 'MakeImage'",
        "   22 |     action: MakeImage",
        "      |             ^",
        "      hint: did you mean 'CreateImage'?",
        "1 error",
    ]


def test_validate_for_machines(invoke: Any) -> None:
    """One verdict for all files, the sentence of the API for each that is refused, and every problem."""
    good = json.loads(invoke("validate", "good.yml", "--json", good=APPROVAL).output)
    assert good == {"validationStatus": "success", "message": "Validation successful.", "problems": []}
    bad = invoke("validate", "bad.yml", "--json", bad="schemaVersion: 2.0\nsteps: []")
    assert bad.exit_code == 1
    answer = json.loads(bad.output)
    assert answer["validationStatus"] == "failed"
    assert answer["message"] == (
        "bad.yml: Invalid workflow document: line 1: schemaVersion '2.0' is not supported (hint: use 1.0)."
    )
    assert [(item["file"], item["line"], item["code"]) for item in answer["problems"]] == [
        ("bad.yml", 1, "schema-version"),
        ("bad.yml", 2, "no-steps"),
    ]


def test_a_type_that_is_not_given_is_found(invoke: Any) -> None:
    """A document that only fits one type is checked as that; a type that is given is obeyed."""
    spread = document_of("name: Spread, action: DistributeImage")
    assert invoke("validate", "spread.yml", spread=spread).exit_code == 0
    refused = invoke("validate", "spread.yml", "--type", "TEST")
    assert refused.exit_code == 1
    assert "wrong-stage" in refused.output


def test_plan_shows_what_runs_with_which_inputs(invoke: Any) -> None:
    """Known values are typed, unknown ones stand as their path; conditions run, skip or depend."""
    arguments = ("--param", "tags=a", "--param", "tags=b", "--variable", "platform=Linux", "--type", "BUILD")
    shown = invoke("plan", "plan.yml", *arguments, plan=PLANNED)
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [
        "BUILD workflow plan.yml",
        "     run  Launch (LaunchInstance, at most 4500 s)",
        "          waitFor: ssmAgent",
        "    skip  Skip (WaitForAction, at most 259200 s)",
        "          if is false",
        "     run  Run (RunCommand, at most 43200 s)",
        "          instanceId: <$.stepOutputs.Launch.instanceId>",
        "          documentName: D3",
        '          parameters: {"tags":["a","b"]}',
        " may run  Maybe (WaitForAction, at most 259200 s)",
        "          if depends on $.stepOutputs.Run.output[0]",
        "  output InstanceId = <$.stepOutputs.Launch.instanceId>",
    ]


def test_plan_for_machines(invoke: Any) -> None:
    """The same as JSON: verdicts, reasons, typed inputs and what is pending."""
    answer = json.loads(invoke("plan", "plan.yml", "--param", "tags=a", "--json", plan=PLANNED).output)
    assert (answer["type"], answer["parameters"]) == ("BUILD", {"tags": ["a"], "size": 3})
    assert [step["verdict"] for step in answer["steps"]] == ["run", "may run", "run", "may run"]
    run = answer["steps"][2]
    assert run["inputs"]["parameters"] == {"tags": ["a"]}
    assert run["pending"] == ["$.stepOutputs.Launch.instanceId"]
    assert answer["outputs"] == {"InstanceId": "<$.stepOutputs.Launch.instanceId>"}


def test_plan_tells_a_step_that_must_fail(invoke: Any) -> None:
    """A step that needs the output of a skipped one is sure to fail, and with Abort so is the workflow."""
    steps = (
        "name: First, action: LaunchInstance, if: {stringEquals: a, value: b}, inputs: {waitFor: ssmAgent}",
        "name: Second, action: CreateImage, inputs: {instanceId.$: $.stepOutputs.First.instanceId}",
        "name: Any, onFailure: Continue, action: ExecuteStateMachine, inputs: {stateMachineArn: $.parameters.tags}",
    )
    before = TAGS + "outputs: [{name: o, value: $.stepOutputs.First.instanceId}]\n"
    text = document_of(*steps, before=before)
    failing = invoke("plan", "fail.yml", "--param", "tags=a", fail=text)
    assert failing.exit_code == 1
    assert "Unable to resolve '$.stepOutputs.First.instanceId': step 'First' is skipped" in failing.output
    assert "step 'Second' fails and ends the workflow" in failing.output
    assert "output" not in failing.output
    lenient = text.replace("First.instanceId}}", "First.instanceId}, onFailure: Continue}")
    passing = invoke("plan", "fail.yml", "--param", "tags=a", fail=lenient)
    assert passing.exit_code == 0
    assert "'inputs.stateMachineArn' must be a string, not a list" in passing.output


def test_plan_is_not_sure_of_what_may_be_skipped(invoke: Any) -> None:
    """A step whose condition depends on the run may fail, which is told, but does not end the plan."""
    steps = (
        "name: First, action: LaunchInstance, if: {stringEquals: a, value: b}, inputs: {waitFor: ssmAgent}",
        "name: Second, action: CreateImage, if: {stringEquals: Linux, value: $.imagebuilder.platform}, "
        "inputs: {instanceId.$: $.stepOutputs.First.instanceId}",
    )
    shown = invoke("plan", "unsure.yml", unsure=document_of(*steps))
    assert shown.exit_code == 0
    assert "if depends on $.imagebuilder.platform; when it runs, it fails: Unable to resolve" in shown.output
    assert invoke("plan", "unsure.yml", "--variable", "platform=Linux").exit_code == 1


def test_plan_knows_managed_workflows(invoke: Any) -> None:
    """A name with its type stands for the managed document, unless there is such a file."""
    shown = invoke("plan", "build/build-container", "--variable", "imageType=DOCKER")
    assert shown.exit_code == 0
    assert "run  BootstrapBuildInstance" in shown.output
    with pytest.raises(CommandFailed, match="test/none"):
        invoke("plan", "test/none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "'tags' has no default"),
        (["--param", "tags=a", "--param", "other=b"], "no parameter 'other'"),
        (["--param", "tags=a", "--param", "size=big"], "'big'"),
        (["--param", "tags=a", "--variable", "plattform=Linux"], "plattform"),
        (["--param", "tags=a", "--variable", "imageBuildNumber=one"], "integer"),
    ],
)
def test_plan_refuses_wrong_values(invoke: Any, arguments: list[str], message: str) -> None:
    """Parameters and variables are named with what is wrong."""
    with pytest.raises(CommandFailed, match=message):
        invoke("plan", "plan.yml", *arguments, plan=PLANNED)


def test_plan_of_a_broken_document(invoke: Any) -> None:
    """Its problems are shown as by validate, as one sentence for machines."""
    broken = invoke("plan", "bad.yml", bad="steps: []")
    assert broken.exit_code == 1
    assert "missing-key" in broken.output
    with pytest.raises(CommandFailed, match="Invalid workflow document"):
        invoke("plan", "bad.yml", "--json")
    with pytest.raises(CommandFailed, match=r"nowhere\.yml"):
        invoke("plan", "nowhere.yml")


def test_a_new_document_is_valid_and_never_overwrites(invoke: Any, tmp_path: Path) -> None:
    """The starter passes its own checks and plan; an existing file stays."""
    assert invoke("new", "ask me.yml").exit_code == 0
    assert invoke("validate", "ask me.yml", "--type", "TEST").output == "Validation successful.\n"
    asked = invoke("plan", "ask me.yml", "--param", "approver=me", "--type", "TEST")
    assert "run  AskApprover" in asked.output
    with pytest.raises(CommandFailed, match="exists"):
        invoke("new", "ask me.yml")
    assert "name: ask me" in (tmp_path / "ask me.yml").read_text()


def test_a_new_document_may_begin_as_a_managed_one(invoke: Any, tmp_path: Path) -> None:
    """The copy has its own name and is otherwise the managed document."""
    assert invoke("new", "2nd-build.yml", "--from", "build/build-container").exit_code == 0
    text = (tmp_path / "2nd-build.yml").read_text()
    assert text.replace("name: '2nd-build'", "name: build-container") == (
        managed_workflow("build", "build-container").text
    )
    assert invoke("validate", "2nd-build.yml", "--type", "BUILD").exit_code == 0
    with pytest.raises(CommandFailed, match="build/none"):
        invoke("new", "other.yml", "--from", "build/none")
