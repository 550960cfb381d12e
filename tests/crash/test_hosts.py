"""Several hosts on one PostgreSQL: who dies, hangs or comes back, every build ends once and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import new_postgresql_database
from crash.hosts_support import RunningWorker, Site
from distribution.registry_support import RunningRegistry
from pipeline.pipeline_support import HOLD, RunningServer, eventually, held, release, uris
from pipeline.workflow_support import build_document, executions, run_with, shell, steps, workflow

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, postgresql: str, tiny_parent: str, open_registry: RunningRegistry
) -> Iterator[Site]:
    """PostgreSQL, a folder for artifacts, a registry."""
    folder = tmp_path_factory.mktemp("site")
    with Site(
        folder, database_url=new_postgresql_database(postgresql, "site"), artifacts=str(folder / "shared"),
        parent=tiny_parent, registry=open_registry.host,
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def front(site: Site) -> RunningServer:
    """The server; it builds nothing itself."""
    return site.server("front")


@pytest.fixture(scope="module")
def hosts(site: Site, front: RunningServer) -> dict[str, RunningWorker]:
    return {name: site.worker(name) for name in ("one", "two")}


@pytest.fixture
def workers(site: Site, hosts: dict[str, RunningWorker]) -> dict[str, RunningWorker]:
    """Two workers that run."""
    for worker in hosts.values():
        if not worker.pid:
            worker.start()
    return hosts


def test_a_build_whose_worker_was_killed_ends_elsewhere(
    site: Site, front: RunningServer, workers: dict[str, RunningWorker]
) -> None:
    """The other worker begins the workflow anew, because the instance died with its worker, and ends it."""
    forge = front.forge
    name = forge.name("hold")
    build = workflow(forge, "BUILD", build_document(shell("Work", f"{HOLD.format(name=name)}; echo done")))
    arn = run_with(forge, build)
    held(name)
    first = site.working_on()
    workers[first].kill()
    second = "two" if first == "one" else "one"
    eventually(lambda: site.workers()[second].running, "the other worker takes it over")
    release(name)
    image = forge.finished(arn)
    assert uris(image)
    log = site.log_on(workers[second], arn)
    assert log.count("the workflow begins anew") == 1
    assert log.count("end | AVAILABLE") == 1
    assert site.workers()[first].worker.state == "gone"
    print("1 run: its worker was killed, it ended on the other one; lost: nothing")


def test_a_worker_that_was_frozen_cannot_finish_what_another_took(
    site: Site, front: RunningServer, workers: dict[str, RunningWorker]
) -> None:
    """It goes on after its lease: what it did is refused, it removes it, and takes work again under a new id."""
    forge = front.forge
    name = forge.name("hold")
    build = workflow(forge, "BUILD", build_document(shell("Work", f"{HOLD.format(name=name)}; cat /proc/1/comm")))
    arn = run_with(forge, build)
    old = held(name)
    first = site.working_on()
    before = site.workers()[first].worker.id
    workers[first].pause()
    second = "two" if first == "one" else "one"
    eventually(lambda: site.workers()[second].running, "the other worker takes it over")
    new = eventually(
        lambda: next((pid for pid in all_held(name) if pid != old), 0), "it has come to the same place"
    )
    Path(f"/proc/{old}/root/dev/shm/go").touch()
    workers[first].go_on()
    rejoined = eventually(
        lambda: seen if (seen := site.workers()[first].worker).id != before and seen.state == "alive" else None,
        "the frozen worker begins anew",
    )
    assert rejoined.pid == workers[first].pid
    assert forge.state(arn) == "BUILDING"
    assert steps(forge, executions(forge, arn)[0]["workflowExecutionId"])["Work"]["status"] == "RUNNING"
    Path(f"/proc/{new}/root/dev/shm/go").touch()
    forge.finished(arn)
    assert "end |" not in site.log_on(workers[first], arn)
    assert site.log_on(workers[second], arn).count("end | AVAILABLE") == 1
    assert "another process goes on with" in workers[first].errors.read_text()
    print("1 run: its worker was frozen for longer than its lease, its result was refused; lost: nothing")


def all_held(name: str) -> list[int]:
    from pipeline.pipeline_support import find_processes

    return find_processes(lambda words: words[-1] == f"hold-{name}" and words[0].endswith("sh"))
