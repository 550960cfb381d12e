"""CancelImageCreation in every stage of a build."""

from __future__ import annotations

import time

import pytest

from testing.crash_support import STAGES, Tally, catch, die_and_come_back, prompt_seconds
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, RunningServer, eventually, held
from testing.socket_proxy import Gate
from testing.workflow_support import executions

pytestmark = pytest.mark.tool


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancel_ends_the_build_at_once(server: RunningServer, registry_gate: Gate, stage: str) -> None:
    """The image is CANCELLED within two seconds, without a failure, and nothing of the build is left."""
    forge = server.forge
    caught = catch(stage, forge, registry_gate)
    started = time.monotonic()
    forge.client.cancel_image_creation(imageBuildVersionArn=caught.arn)
    eventually(lambda: forge.state(caught.arn) == "CANCELLED", "CANCELLED", seconds=30)
    assert time.monotonic() - started < prompt_seconds()
    if stage == "export":
        caught.let_go()  # of the lock, which the next build needs
    image = forge.image(caught.arn)
    assert set(image["state"]) == {"status"}
    assert_clean(server)
    assert not [group for group in caught.groups if group.exists()]
    assert server.log(caught.arn).count("end | ") == 1
    registry_gate.open()
    forge.build(forge.recipe(forge.component(build="true")))


def test_a_build_that_waits_is_cancelled_and_never_begins(server: RunningServer, registry_gate: Gate) -> None:
    """Builds beyond the concurrency limit wait as PENDING; a cancelled one is skipped when its turn comes."""
    forge = server.forge
    running = [catch("components", forge, registry_gate) for _ in range(2)]
    waiting = forge.start(forge.recipe(forge.component(build="true")))
    last = forge.start(forge.recipe(forge.component(build="true")))
    assert forge.state(waiting) == "PENDING"
    forge.client.cancel_image_creation(imageBuildVersionArn=waiting)
    assert forge.state(waiting) == "CANCELLED"
    for caught in running:
        caught.let_go()
        forge.finished(caught.arn)
    forge.finished(last)
    assert forge.state(waiting) == "CANCELLED"
    assert "build | " not in server.log(waiting)


def test_a_cancel_survives_a_kill(server: RunningServer, registry_gate: Gate) -> None:
    """A server that is killed right after a cancel does not take the build up again."""
    forge = server.forge
    caught = catch("components", forge, registry_gate)
    forge.client.cancel_image_creation(imageBuildVersionArn=caught.arn)
    server.kill()
    server.start()
    server.forge.finished(caught.arn, "CANCELLED")
    assert "attempt 2" not in server.log(caught.arn)


def test_a_cancel_while_builds_are_recovered(stored_server: RunningServer, tally: Tally) -> None:
    """At every moment after the restart: all are CANCELLED, none is begun for ever, and nothing is left."""
    forge = stored_server.forge
    names = [forge.name("hold") for _ in range(6)]
    arns = [forge.start(forge.recipe(forge.component(build=HOLD.format(name=name)))) for name in names]
    for name in names:
        held(name)
    die_and_come_back(stored_server)
    forge = stored_server.forge
    for number, arn in enumerate(arns):
        time.sleep(0.05 * number)
        forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    for arn in arns:
        forge.finished(arn, "CANCELLED")
        assert stored_server.log(arn).count("end | ") == 1
        assert {run["status"] for run in executions(forge, arn)} == {"CANCELLED"}
    assert_clean(stored_server)
    tally(len(arns), "were cancelled while the server recovered them")
