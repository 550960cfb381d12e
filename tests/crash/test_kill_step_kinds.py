"""kill -9 of the server in a step of every kind at once, on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.builds.steps.table import CONTAINER_ACTIONS, WAIT
from testing.crash_support import Tally
from testing.leaks import running_below
from testing.pipeline_support import RunningServer, eventually, image_digest, uris
from testing.socket_proxy import Gate
from testing.step_kinds import CATCH_IN, WORK
from testing.vulnerable import feed
from testing.workflow_support import executions, steps

pytestmark = pytest.mark.tool


def test_every_kind_of_step_is_tried() -> None:
    """All actions that a container image can have, and no other."""
    assert set(CATCH_IN) == {*CONTAINER_ACTIONS, WAIT}


def test_a_kill_in_every_kind_of_step(
    stored_server: RunningServer, registry_gate: Gate, tally: Tally, tmp_path: Path
) -> None:
    """Each build ends AVAILABLE once; its log says what began again; what it pushed is what was built."""
    server = stored_server
    feed(server, tmp_path)
    registry_gate.shut()
    caught = {action: catch(server.forge) for action, catch in CATCH_IN.items()}
    for held in caught.values():
        held.enter()
    server.kill()
    for held in caught.values():
        held.died()
    eventually(lambda: not running_below(server), "everything ends with the server", seconds=10)
    server.start()
    registry_gate.open()
    forge = server.forge
    for held in caught.values():
        held.let_go()
    for action, held in caught.items():
        image = forge.finished(held.arn)
        log = server.log(held.arn)
        assert log.count("end | AVAILABLE") == 1, action
        again = [line.partition(" | ")[2] for line in log.splitlines() if "the server stopped " in line]
        assert again == [held.said] * bool(held.said), f"{action}:\n{log}"
        assert image_digest(f"docker://{uris(image)[0]}")
        runs = executions(forge, held.arn)
        assert {run["status"] for run in runs} == {"COMPLETED"}, action
        (work,) = (
            step
            for run in runs
            for step in steps(forge, run["workflowExecutionId"]).values()
            if step["name"] == WORK
        )
        assert (work["action"], work["status"]) == (action, "COMPLETED")
    tally(len(caught), f"were killed in {len(caught)} kinds of steps, all ended AVAILABLE once")
