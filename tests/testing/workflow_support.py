"""Short ways to make workflows, to run images with them, and to read their records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from testing.pipeline_support import HOLD, Forge, eventually

ROLE = "builder"
BUILD = """\
name: build
schemaVersion: 1.0
parameters:
  - {name: word, type: string, default: none}
steps:
  - name: Launch
    action: LaunchInstance
    inputs: {waitFor: ssmAgent}
%s
outputs:
  - {name: InstanceId, value: "$.stepOutputs.Launch.instanceId"}
%s"""
TEST = "name: test\nschemaVersion: 1.0\nsteps:\n"
INSTANCE = 'instanceId.$: "$.stepOutputs.Launch.instanceId"'
TEST_LAUNCH = "  - {name: Launch, action: LaunchInstance, inputs: {waitFor: ssmAgent}}\n"


def shell(name: str, command: str, more: str = "") -> str:
    """A step that runs a shell command in the instance of the step Launch."""
    return f"""\
  - name: {name}
    action: RunCommand
{more}    inputs:
      {INSTANCE}
      documentName: AWS-RunShellScript
      parameters:
        commands: [{json.dumps(command)}]
"""


def build_document(steps: str, outputs: str = "") -> str:
    return BUILD % (steps.rstrip(), outputs)


def workflow(forge: Forge, kind: str, data: str) -> str:
    """Make a workflow; gives its ARN."""
    made = forge.client.create_workflow(name=forge.name("workflow"), semanticVersion="1.0.0", type=kind, data=data)
    return str(made["workflowBuildVersionArn"])


def run_with(forge: Forge, *entries: str | Mapping[str, Any], recipe: str = "", **members: Any) -> str:
    """Start an image with workflows, each an ARN or an entry; gives the image's ARN."""
    listed = [entry if isinstance(entry, Mapping) else {"workflowArn": entry} for entry in entries]
    recipe = recipe or forge.recipe(forge.component(build="true"))
    return forge.start(recipe, workflows=listed, executionRole=ROLE, **members)


def run_members(forge: Forge, names: Sequence[str], more: str = "") -> str:
    """Start an image with a parallel group of TEST workflows that are held until their names are released.

    `more`: the steps of each behind that. Gives the image's ARN.
    """
    held = [TEST + TEST_LAUNCH + shell("Work", f"{HOLD.format(name=name)}; true") + more for name in names]
    return run_with(
        forge,
        *({"workflowArn": workflow(forge, "TEST", document), "parallelGroup": "g"} for document in held),
    )


def executions(forge: Forge, image: str) -> list[dict[str, Any]]:
    found = forge.client.list_workflow_executions(imageBuildVersionArn=image)["workflowExecutions"]
    return [dict(item) for item in found]


def steps(forge: Forge, execution: str) -> dict[str, dict[str, Any]]:
    """The steps of a run by name, in order."""
    found = forge.client.list_workflow_step_executions(workflowExecutionId=execution)["steps"]
    assert all((step["attemptNumber"], step["maxAttempts"]) == (1, 1) for step in found)
    return {step["name"]: dict(step) for step in found}


def statuses(forge: Forge, execution: str) -> dict[str, str]:
    return {name: step["status"] for name, step in steps(forge, execution).items()}


def waiting(forge: Forge, image: str) -> dict[str, Any]:
    """The step of an image that waits, once there is one."""

    def find() -> dict[str, Any] | None:
        found = forge.client.list_waiting_workflow_steps()["steps"]
        return next((dict(step) for step in found if step["imageBuildVersionArn"] == image), None)

    return eventually(find, f"a step of {image} waits", seconds=60)


def answer(forge: Forge, step: Mapping[str, Any], action: str = "RESUME", **members: Any) -> None:
    forge.client.send_workflow_step_action(
        stepExecutionId=step["stepExecutionId"], imageBuildVersionArn=step["imageBuildVersionArn"],
        action=action, **members,
    )  # fmt: skip
