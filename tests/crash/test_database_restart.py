"""The database goes away in the middle of builds and comes back: they go on, nothing is lost or done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from testing.crash_support import Tally
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, RunningServer, held, release
from testing.postgresql import OwnPostgresql
from testing.workflow_support import (
    answer,
    build_document,
    executions,
    run_with,
    shell,
    steps,
    waiting,
    workflow,
)  # fmt: skip

pytestmark = pytest.mark.tool

_AWAY_SECONDS = 2.0


@pytest.fixture(scope="module")
def database_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, own_database: OwnPostgresql
) -> Iterator[RunningServer]:
    """A server on that database."""
    folder = tmp_path_factory.mktemp("restarts") / "data"
    settings = f'database_url = "{own_database.url}"\n[builds]\nconcurrency = 8\n'
    with RunningServer(folder, parent=tiny_parent, settings=settings) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_builds_outlast_a_restart_of_the_database(
    database_server: RunningServer, own_database: OwnPostgresql, mode: str, tally: Tally
) -> None:
    """Stopped and crashed: a step that ends meanwhile, one that waits, a row of short ones; each runs once."""
    server = database_server
    forge = server.forge
    name = forge.name("hold")
    count = "echo once >> /count; "
    works = shell("Work", f"{count}{HOLD.format(name=name)}") + shell("After", "cat /count")
    working = run_with(forge, workflow(forge, "BUILD", build_document(works)))
    asks = shell("Work", count) + "  - {name: Ask, action: WaitForAction}\n" + shell("After", "cat /count")
    asking = run_with(forge, workflow(forge, "BUILD", build_document(asks)))
    waits = waiting(forge, asking)
    held(name)
    row = "".join(shell(f"Step{number}", f"echo {number} >> /row; sleep 0.2") for number in range(12))
    busy = run_with(forge, workflow(forge, "BUILD", build_document(row + shell("After", "cat /row"))))
    own_database.stop(mode)
    release(name)
    time.sleep(_AWAY_SECONDS)
    own_database.start()
    answer(server.forge, waits)
    forge = server.forge
    for arn, expected in ((working, "once"), (asking, "once"), (busy, "\n".join(map(str, range(12))))):
        forge.finished(arn)
        (run,) = executions(forge, arn)
        assert json.loads(steps(forge, run["workflowExecutionId"])["After"]["outputs"])["output"] == [expected]
        log = server.log(arn)
        assert log.count("end | AVAILABLE") == 1 and "the server stopped" not in log
    tally(3, f"outlasted a database that was stopped ({mode}) for {_AWAY_SECONDS:g} s")
