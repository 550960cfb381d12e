"""Somebody kills a process of a build: the build fails with the cause, and the next one works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from testing.crash_support import catch, kill_below
from testing.leaks import assert_clean, running_below
from testing.pipeline_support import HOLD, RunningServer, eventually, held
from testing.socket_proxy import Gate

pytestmark = pytest.mark.tool


STEP = ("bash -c . /dev/fd/9",)
SPAWNER = (str(Path(sys.executable).resolve()), " /spawner.py ")
SANDBOX = ("bwrap --args", "/usr/bin/bwrap")


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        (STEP, "exit status 137"),
        (SPAWNER, "cannot run bash"),
        (SANDBOX, "cannot run bash"),
    ],
    ids=["bash", "spawner", "sandbox"],
)
def test_a_killed_step_fails_the_build(
    server: RunningServer, registry_gate: Gate, victim: tuple[str, ...], words: str
) -> None:
    """The bash of a step, the program that forked it, or the sandbox around them: the reason names the step."""
    forge = server.forge
    caught = catch("components", forge, registry_gate)
    kill_below(server, *victim)
    state = forge.finished(caught.arn, "FAILED", seconds=20)["state"]
    assert words in state["reason"], state["reason"]
    assert state["failureContext"]["componentFailure"]["stepName"] == "Build"
    assert_clean(server)
    forge.build(forge.recipe(forge.component(build="true")))


def test_a_killed_instruction_fails_the_build(server: RunningServer, registry_gate: Gate) -> None:
    """A RUN whose shell is killed ends the build with the instruction's name."""
    forge = server.forge
    caught = catch("dockerfile", forge, registry_gate)
    kill_below(server, "sh -c until")
    reason = forge.finished(caught.arn, "FAILED", seconds=20)["state"]["reason"]
    assert "RUN sh -c" in reason and "137" in reason
    assert_clean(server)


def test_a_killed_dockerfile_build_fails_the_build(server: RunningServer, registry_gate: Gate) -> None:
    """A container that is killed in the middle of a RUN leaves nothing, and the build fails."""
    forge = server.forge
    caught = catch("dockerfile", forge, registry_gate)
    kill_below(server, "/dev/holder/holder")
    forge.finished(caught.arn, "FAILED", seconds=20)
    assert_clean(server)
    assert not [group for group in caught.groups if group.exists()]


def test_a_step_that_kills_the_server_is_not_tried_for_ever(server: RunningServer) -> None:
    """After three deaths of the server in one step the build fails and says so."""
    forge = server.forge
    name = forge.name("deadly")
    arn = forge.start(forge.recipe(forge.component(build=HOLD.format(name=name))))
    for _ in range(3):
        held(name)
        server.kill()
        eventually(lambda: not running_below(server), "everything ends with the server", seconds=5)
        server.start()
    state = server.forge.finished(arn, "FAILED", seconds=30)["state"]
    assert "the server died 3 times during this run" in state["reason"]
