"""kill -9 of the server in steps of workflows, on SQLite and on PostgreSQL: runs go on, none is done twice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from testing.commands import COMMAND
from testing.crash_support import die_and_come_back
from testing.pipeline_support import HOLD, RunningServer, eventually, held, release
from testing.workflow_support import (
    TEST,
    TEST_LAUNCH,
    answer,
    build_document,
    executions,
    run_with,
    shell,
    statuses,
    steps,
    waiting,
    workflow,
)

pytestmark = pytest.mark.tool


def test_a_wait_survives_with_its_instance(stored_server: RunningServer) -> None:
    """The answer comes after the restart; what was written before the wait is there, and nothing ran twice."""
    server = stored_server
    build = workflow(
        server.forge, "BUILD",
        build_document(
            shell("Before", "echo once >> /count")
            + "  - {name: Ask, action: WaitForAction}\n"
            + shell("After", "cat /count")
        ),
    )  # fmt: skip
    arn = run_with(server.forge, build)
    step = waiting(server.forge, arn)
    die_and_come_back(server)
    forge = server.forge
    assert waiting(forge, arn)["stepExecutionId"] == step["stepExecutionId"]
    answer(forge, step, reason="still here")
    forge.finished(arn)
    found = steps(forge, executions(forge, arn)[0]["workflowExecutionId"])
    assert json.loads(found["After"]["outputs"])["output"] == ["once"]
    assert "the server stopped" not in server.log(arn)


def test_a_command_is_never_run_again_on_the_same_instance(stored_server: RunningServer) -> None:
    """A RunCommand that was cut off begins on a new instance, with all steps before it."""
    server = stored_server
    name = server.forge.name("hold")
    command = f"echo once >> /count; {HOLD.format(name=name)}; cat /count"
    build = workflow(server.forge, "BUILD", build_document(shell("Work", command)))
    arn = run_with(server.forge, build)
    held(name)
    die_and_come_back(server)
    release(name)
    forge = server.forge
    forge.finished(arn)
    found = steps(forge, executions(forge, arn)[0]["workflowExecutionId"])
    assert json.loads(found["Work"]["outputs"])["output"] == ["once"]
    assert server.log(arn).count("the workflow starts again") == 1


def test_a_parallel_group_goes_on(stored_server: RunningServer) -> None:
    """Members that ended stay ended, those that ran begin anew, and the image ends once."""
    server = stored_server
    forge = server.forge
    names = [forge.name("hold") for _ in range(2)]
    commands = ["true", *(f"{HOLD.format(name=name)}; true" for name in names)]
    entries = [
        {"workflowArn": workflow(forge, "TEST", TEST + TEST_LAUNCH + shell("Work", command)), "parallelGroup": "g"}
        for command in commands
    ]
    arn = run_with(forge, *entries)
    for name in names:
        held(name)
    eventually(lambda: executions(forge, arn)[0]["status"] == "COMPLETED", "the first member ends")
    first = steps(forge, executions(forge, arn)[0]["workflowExecutionId"])["Work"]["endTime"]
    die_and_come_back(server)
    for name in names:
        release(name)
    forge = server.forge
    forge.finished(arn)
    found = executions(forge, arn)
    assert [item["status"] for item in found] == ["COMPLETED"] * 3
    assert steps(forge, found[0]["workflowExecutionId"])["Work"]["endTime"] == first
    assert server.log(arn).count("end | AVAILABLE") == 1


def test_a_state_machine_is_called_again(stored_server: RunningServer) -> None:
    """A step that works on no instance runs again by itself: what came before it stays."""
    server = stored_server
    calls = server.data_dir.parent / "hook.sh.calls"
    test = workflow(
        server.forge, "TEST",
        TEST + "  - {name: Call, action: ExecuteStateMachine, inputs: {stateMachineArn: 'arn:aws:states:us-east-1:"
        "000000000000:stateMachine:slow', input: {a: 1}}}\n",
    )  # fmt: skip
    arn = run_with(server.forge, test)
    eventually(lambda: calls.exists(), "the hook is called")
    die_and_come_back(server)
    eventually(lambda: calls.read_text().count("once") == 2, "the hook is called again")
    (server.data_dir.parent / "hook.sh.go").touch()
    forge = server.forge
    forge.finished(arn)
    [execution] = executions(forge, arn)
    assert statuses(forge, execution["workflowExecutionId"]) == {"Call": "COMPLETED"}
    outputs = json.loads(steps(forge, execution["workflowExecutionId"])["Call"]["outputs"])
    assert outputs["status"] == "SUCCEEDED" and json.loads(outputs["output"]) == {"n": 1}


def test_a_follower_survives_a_kill(stored_server: RunningServer, tmp_path: Path) -> None:
    """`image logs -f` waits for the server to come back, at whatever port, and ends with the build."""
    server = stored_server
    name = server.forge.name("hold")
    arn = server.forge.start(server.forge.recipe(server.forge.component(build=HOLD.format(name=name))))
    held(name)
    said = tmp_path / "said"
    command = [COMMAND, "image", "logs", "-f", arn, "--data-dir", str(server.data_dir)]
    with said.open("wb") as out:
        follower = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        eventually(said.read_bytes, "the log is followed", seconds=60)
        die_and_come_back(server)
        release(name)
        server.forge.finished(arn)
        assert follower.wait(60) == 0, said.read_text()
    finally:
        follower.kill()
        follower.wait()
    assert said.read_text() == server.log(arn)
