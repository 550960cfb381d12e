"""The database goes away under a build that is inside a step: the step waits, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from testing.crash_support import Tally, catch, hold_export
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, REGION, RunningServer, eventually, held, release, uris
from testing.postgresql import OwnPostgresql
from testing.socket_proxy import Gate
from testing.vulnerable import debian, feed
from testing.workflow_support import (
    build_document,
    executions,
    run_members,
    run_with,
    shell,
    workflow,
)

pytestmark = pytest.mark.tool

_STAGES = ("parent", "dockerfile", "components", "export", "test", "push")
_AWAY = "the database does not answer; the build waits for it"


@pytest.fixture(scope="module")
def outage_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, own_database: OwnPostgresql, registry_gate: Gate
) -> Iterator[RunningServer]:
    """A server on that database; its registry is behind a gate."""
    folder = tmp_path_factory.mktemp("outage") / "data"
    settings = f'database_url = "{own_database.url}"\n[builds]\nconcurrency = 8\n'
    registries = {REGION: registry_gate.host}
    with RunningServer(folder, parent=tiny_parent, registries=registries, settings=settings) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def _away(own: OwnPostgresql, server: RunningServer, arn: str, mode: str, let_go: Callable[[], object]) -> None:
    """Stop the database, let the build go on until it waits, and start the database again."""
    own.stop(mode)
    try:
        let_go()
        eventually(lambda: _AWAY in server.log(arn), f"the build {arn} waits for the database", seconds=40)
    finally:
        own.start()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("stage", _STAGES)
def test_a_step_waits_for_its_database(
    outage_server: RunningServer, own_database: OwnPostgresql, registry_gate: Gate, stage: str, mode: str,
    tally: Tally,
) -> None:  # fmt: skip
    """Caught inside of each stage, the build is AVAILABLE in the end, without a second attempt."""
    registry_gate.open()
    server = outage_server
    if stage == "export":
        name = server.forge.name("export")
        script = f"echo once >> /count; {HOLD.format(name=name)}"
        arn = server.forge.start(server.forge.recipe(server.forge.component(build=script)))
        let_go: Callable[[], object] = hold_export(server, name)
    else:
        caught = catch(stage, server.forge, registry_gate)
        arn, let_go = caught.arn, caught.let_go
    _away(own_database, server, arn, mode, let_go)
    image = server.forge.finished(arn)
    log = server.log(arn)
    assert log.count("end | AVAILABLE") == 1
    assert "attempt 2 begins" not in log and "starts again" not in log and "FAILED" not in log, log
    assert len(uris(image)) == len(set(uris(image)))
    tally(1, f"waited for its database ({mode}) in {stage}")


def _ended_once(server: RunningServer, arn: str) -> None:
    """The build is AVAILABLE, and nothing of it was done a second time."""
    server.forge.finished(arn)
    log = server.log(arn)
    assert log.count("end | AVAILABLE") == 1
    assert "attempt 2 begins" not in log and "starts again" not in log and "FAILED" not in log, log


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_scan_waits_for_its_database(
    outage_server: RunningServer, own_database: OwnPostgresql, registry_gate: Gate, tmp_path: Path, mode: str,
    tally: Tally,
) -> None:  # fmt: skip
    """Caught where the image under scan is pushed, the scan is COMPLETED and its findings are stored once."""
    registry_gate.open()
    server = outage_server
    forge = server.forge
    feed(server, tmp_path)
    registry_gate.shut()
    arn = forge.start(forge.recipe(debian(forge)), imageScanningConfiguration={"imageScanningEnabled": True})
    assert registry_gate.waiting.wait(60)
    _away(own_database, server, arn, mode, registry_gate.open)
    _ended_once(server, arn)
    assert server.forge.image(arn)["scanState"] == {"status": "COMPLETED"}
    wanted = [{"name": "imageBuildVersionArn", "values": [arn]}]
    found = server.forge.client.list_image_scan_findings(filters=wanted)["findings"]
    known = [item["packageVulnerabilityDetails"]["vulnerabilityId"] for item in found]
    assert sorted(known) == ["CVE-2024-0001", "CVE-2024-0002"]
    tally(1, f"waited for its database ({mode}) in a scan")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_parallel_group_waits_for_its_database(
    outage_server: RunningServer, own_database: OwnPostgresql, registry_gate: Gate, mode: str, tally: Tally
) -> None:
    """Members that end while the database is away, and one that ends after it came back, run once each."""
    registry_gate.open()
    server = outage_server
    forge = server.forge
    names = [forge.name("member") for _ in range(3)]
    arn = run_members(forge, names, shell("After", "true"))
    for name in names:
        held(name)

    def end_two() -> None:
        for name in names[:2]:
            release(name)

    _away(own_database, server, arn, mode, end_two)
    release(names[2])
    _ended_once(server, arn)
    assert [item["status"] for item in executions(server.forge, arn)] == ["COMPLETED"] * 3
    tally(3, f"waited for their database ({mode}) in a parallel group")


def test_the_journal_alone_may_be_away(
    outage_server: RunningServer, own_database: OwnPostgresql, registry_gate: Gate, tally: Tally
) -> None:
    """Every connection of the journal is ended for seconds while the records of builds can be written."""
    registry_gate.open()
    server = outage_server
    forge = server.forge
    names = [forge.name("journal") for _ in range(2)]
    row = "".join(shell(f"Step{number}", f"echo {number} >> /row; sleep 0.1") for number in range(12))
    arns = [
        run_with(
            forge,
            workflow(forge, "BUILD", build_document(shell("Work", f"{HOLD.format(name=name)}; true") + row)),
        )
        for name in names
    ]
    for name in names:
        held(name)
    with psycopg.connect(own_database.url.replace("+psycopg", ""), autocommit=True) as admin:
        release(names[0])
        until = time.monotonic() + 6
        while time.monotonic() < until:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE '%imagesmith_engine%' AND pid <> pg_backend_pid()"
            )
            time.sleep(0.05)
    release(names[1])
    for arn in arns:
        _ended_once(server, arn)
    tally(2, "outlasted a journal without connections")


def test_a_server_stops_while_its_database_is_away(
    outage_server: RunningServer, own_database: OwnPostgresql, registry_gate: Gate, tally: Tally
) -> None:
    """SIGTERM ends a build that waits for the database; it goes on after both have started again."""
    registry_gate.open()
    server = outage_server
    forge = server.forge
    name = forge.name("stopped")
    arn = forge.start(forge.recipe(forge.component(build=HOLD.format(name=name))))
    held(name)
    own_database.stop("immediate")
    try:
        release(name)
        eventually(lambda: _AWAY in server.log(arn), "the build waits", seconds=40)
        server.stop()
    finally:
        own_database.start()
    server.start()
    # the instance went with the process
    held(name)
    release(name)
    server.forge.finished(arn)
    assert server.log(arn).count("end | AVAILABLE") == 1
    tally(1, "waited for its database when the server was stopped")


def test_waiting_for_a_database_is_no_time_of_a_step(
    outage_server: RunningServer, own_database: OwnPostgresql, registry_gate: Gate, tally: Tally
) -> None:
    """A step of 12 s whose database is away for longer than that is not late."""
    registry_gate.open()
    server = outage_server
    forge = server.forge
    name = forge.name("limit")
    limited = build_document(
        shell("Work", HOLD.format(name=name), "    timeoutSeconds: 12\n") + shell("After", "true")
    )
    arn = run_with(forge, workflow(forge, "BUILD", limited))
    held(name)
    own_database.stop("fast")
    release(name)
    eventually(lambda: _AWAY in server.log(arn), "the build waits", seconds=40)
    time.sleep(13)
    own_database.start()
    server.forge.finished(arn)
    tally(1, "waited for its database for longer than its step may take")
