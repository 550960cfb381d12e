"""Several hosts on one PostgreSQL and one bucket: who dies, hangs or comes back, every build ends once.

The set-up is that of docs/operations.md, Several hosts: a server that builds nothing and two workers, each with a
data directory of its own. Each test prints how many runs it made and what was lost.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from imagesmith.values.states import FINAL_IMAGE
from testing.hosts_support import SOON_SECONDS, RunningWorker, Site
from testing.object_store import object_store, store_settings
from testing.pipeline_support import (
    HOLD,
    Forge,
    RunningServer,
    all_held,
    eventually,
    held,
    let_go,
    release,
    uris,
)
from testing.postgresql import new_postgresql_database
from testing.registry_support import RunningRegistry
from testing.workflow_support import (
    TEST,
    answer,
    build_document,
    executions,
    run_members,
    run_with,
    shell,
    steps,
    waiting,
    workflow,
)

pytestmark = [pytest.mark.tool, pytest.mark.timeout(600)]

NO_OP_BUILDS = 200
EMPTY = "  - {name: Nothing, action: TerminateInstance, inputs: {instanceId: i-none}}\n"

Workers = dict[str, RunningWorker]
soon = partial(eventually, seconds=SOON_SECONDS)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The endpoint of an S3 server with the bucket `golden`."""
    with object_store("golden") as client:
        yield client.meta.endpoint_url


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql: str,
    bucket: str,
    tiny_parent: str,
    open_registry: RunningRegistry,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = store_settings(bucket, folder)
    with Site(
        folder, database_url=new_postgresql_database(postgresql, "site"), artifacts="s3://golden/artifacts",
        parent=tiny_parent, registry=open_registry.host, settings=settings,
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def front(site: Site) -> RunningServer:
    return site.server("front")


@pytest.fixture(scope="module")
def hosts(site: Site, front: RunningServer) -> Workers:
    return {name: site.worker(name) for name in ("one", "two")}


@pytest.fixture
def workers(site: Site, hosts: Workers) -> Workers:
    """Two workers that run, and of which the others know."""
    for name, worker in hosts.items():
        if worker.pid and site.workers()[name].worker.state != "alive":
            worker.kill()  # a test before this one failed
        if not worker.pid:
            worker.start()
    soon(lambda: all(site.workers()[name].worker.state == "alive" for name in hosts), "both workers take work")
    return hosts


def other(name: str) -> str:
    return "two" if name == "one" else "one"


def hold_document(name: str) -> str:
    return build_document(shell("Work", HOLD.format(name=name)))


def ended(site: Site, worker: RunningWorker, arn: str, how: str) -> None:
    """The build ended on this worker, once; its last line comes just after the state that the API shows."""
    soon(lambda: "end | " in site.log_on(worker, arn), "its log ends")
    assert site.log_on(worker, arn).count(f"end | {how}") == 1


def any_ended(site: Site, workers: Workers, arn: str) -> bool:
    return any("end | " in site.log_on(worker, arn) for worker in workers.values())


def test_an_image_of_one_worker_is_the_parent_on_another(
    site: Site, front: RunningServer, workers: Workers
) -> None:
    """What one built is tested, pushed, built upon and verified on hosts that never had it."""
    forge = front.forge
    os.kill(workers["two"].pid, signal.SIGTERM)
    soon(lambda: site.workers()["two"].worker.state in ("draining", "gone"), "it takes nothing new")
    first = forge.build(forge.recipe(forge.component(build="echo one > /made", test="grep one /made")))
    ended(site, workers["one"], first["arn"], "AVAILABLE")
    workers["two"].kill()
    workers["two"].start()
    workers["one"].stop()
    second = forge.build(forge.recipe(forge.component(build="grep one /made"), parentImage=first["arn"]))
    ended(site, workers["two"], second["arn"], "AVAILABLE")
    assert uris(second)
    shown = json.loads(front.command("worker", "list", "--database-url", site.database_url, "--json"))
    states = {item["name"]: item["state"] for item in shown}
    assert states | {"front": "alive", "one": "gone", "two": "alive"} == states
    print("2 runs on two workers with data directories of their own; lost: nothing")


def test_a_build_whose_worker_was_killed_ends_elsewhere(site: Site, front: RunningServer, workers: Workers) -> None:
    """The other worker begins the workflow anew, because the instance died with its worker, and ends it."""
    forge = front.forge
    name = forge.name("hold")
    arn = run_with(forge, workflow(forge, "BUILD", hold_document(name)))
    held(name)
    first = site.working_on()
    # what it wrote in its last second is only on its own disk
    soon(lambda: "parent | " in front.command("image", "logs", arn), "its log is in the shared store")
    workers[first].kill()
    soon(lambda: site.workers()[other(first)].running, "the other worker takes it over")
    release(name)
    assert uris(forge.finished(arn, seconds=SOON_SECONDS))
    ended(site, workers[other(first)], arn, "AVAILABLE")
    log = site.log_on(workers[other(first)], arn)
    assert log.count("the workflow starts again") == 1
    told = front.command("image", "logs", "-f", arn)
    assert told.splitlines() == sorted(told.splitlines(), key=lambda line: line.partition(" ")[0])
    assert "end | AVAILABLE" in told and site.log_on(workers[first], arn).splitlines()[0] in told
    step = front.command("image", "logs", arn, "--step", "Work")
    assert "Work COMPLETED" in step
    assert site.workers()[first].worker.state == "gone"
    print("1 run, its worker was killed: it ended on the other one; lost: nothing")


def test_a_worker_that_was_frozen_cannot_finish_what_another_took(
    site: Site, front: RunningServer, workers: Workers
) -> None:
    """It goes on after its lease: what it did is refused, it removes it, and takes work again under a new id."""
    forge = front.forge
    name = forge.name("hold")
    arn = run_with(forge, workflow(forge, "BUILD", hold_document(name)))
    old = held(name)
    first = site.working_on()
    before = site.workers()[first].worker.id
    workers[first].pause()
    soon(lambda: site.workers()[other(first)].running, "the other worker takes it over")
    new = soon(lambda: next((pid for pid in all_held(name) if pid != old), 0), "it has come to the same place")
    let_go(old)
    workers[first].go_on()
    rejoined = soon(
        lambda: seen if (seen := site.workers()[first].worker).id != before and seen.state == "alive" else None,
        "the frozen worker begins anew",
    )
    assert rejoined.pid == workers[first].pid
    assert forge.state(arn) == "BUILDING"
    assert steps(forge, executions(forge, arn)[0]["workflowExecutionId"])["Work"]["status"] == "RUNNING"
    let_go(new)
    forge.finished(arn, seconds=SOON_SECONDS)
    assert "end |" not in site.log_on(workers[first], arn)
    ended(site, workers[other(first)], arn, "AVAILABLE")
    assert "another process took over" in workers[first].errors.read_text()
    print("1 run, its worker was frozen for longer than its lease: its result was refused; lost: nothing")


def test_a_cancel_reaches_a_build_that_is_taken_over(site: Site, front: RunningServer, workers: Workers) -> None:
    """Asked for while nobody works on the build, it is what the next worker does: CANCELLED, once."""
    forge = front.forge
    name = forge.name("hold")
    arn = run_with(forge, workflow(forge, "BUILD", hold_document(name)))
    held(name)
    first = site.working_on()
    workers[first].kill()
    forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    forge.finished(arn, "CANCELLED", seconds=SOON_SECONDS)
    ended(site, workers[other(first)], arn, "CANCELLED")
    assert all_held(name) == []
    print("1 run, cancelled while its worker was dead: CANCELLED by the other one; lost: nothing")


def test_a_cancel_reaches_a_build_on_another_host(front: RunningServer, workers: Workers) -> None:
    """The server stops what runs on a worker; its processes end."""
    forge = front.forge
    name = forge.name("hold")
    arn = run_with(forge, workflow(forge, "BUILD", hold_document(name)))
    held(name)
    forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    eventually(lambda: not all_held(name), "the command ends", seconds=10)
    forge.finished(arn, "CANCELLED", seconds=SOON_SECONDS)
    print("1 run, cancelled on another host; lost: nothing")


def test_a_wait_goes_on_where_its_instance_is(site: Site, front: RunningServer, workers: Workers) -> None:
    """An answer that the server takes wakes the run on the worker that has the instance; nothing is done twice."""
    forge = front.forge
    document = build_document(
        shell("Before", "echo once >> /count")
        + "  - {name: Ask, action: WaitForAction}\n"
        + shell("After", "cat /count")
    )
    arns = [run_with(forge, workflow(forge, "BUILD", document)) for _ in range(2)]
    asked = [waiting(forge, arn) for arn in arns]
    for step in asked:
        answer(forge, step)
    for arn in arns:
        forge.finished(arn, seconds=SOON_SECONDS)
        found = steps(forge, executions(forge, arn)[0]["workflowExecutionId"])
        assert json.loads(found["After"]["outputs"])["output"] == ["once"]
        assert not any("the server stopped" in site.log_on(worker, arn) for worker in workers.values())
    print("2 runs that waited for an answer; lost: nothing")


def test_a_parallel_group_spreads_over_workers(site: Site, front: RunningServer, workers: Workers) -> None:
    """Members run on any worker and the image ends once, also when one of the workers dies meanwhile."""
    forge = front.forge
    names = [forge.name("hold") for _ in range(3)]
    arn = run_members(forge, names)
    for name in names:
        held(name)
    busy = Counter({name: seen.running for name, seen in site.workers().items()})
    assert sum(busy.values()) >= len(names)
    killed = busy.most_common(1)[0][0]
    workers[killed].kill()
    soon(lambda: site.workers()[other(killed)].running >= len(names), "the other worker has all members")
    for name in names:
        release(name)
    forge.finished(arn, seconds=SOON_SECONDS)
    assert [item["status"] for item in executions(forge, arn)] == ["COMPLETED"] * len(names)
    ended(site, workers[other(killed)], arn, "AVAILABLE")
    print("1 run with 3 parallel members, one of two workers was killed; lost: nothing")


def test_a_worker_that_drains_ends_its_build_and_takes_nothing_new(
    site: Site, front: RunningServer, workers: Workers
) -> None:
    """After SIGTERM it ends what it has, the other worker gets what comes, and then it is gone."""
    forge = front.forge
    name = forge.name("hold")
    arn = run_with(forge, workflow(forge, "BUILD", hold_document(name)))
    held(name)
    first = site.working_on()
    os.kill(workers[first].pid, signal.SIGTERM)
    soon(lambda: site.workers()[first].worker.state == "draining", "it drains")
    recipe = forge.recipe(forge.component(build="true"))
    for _ in range(3):
        image = forge.build(recipe)
        ended(site, workers[other(first)], image["arn"], "AVAILABLE")
    release(name)
    forge.finished(arn, seconds=SOON_SECONDS)
    ended(site, workers[first], arn, "AVAILABLE")
    soon(lambda: site.workers()[first].worker.state == "gone", "it ends")
    workers[first].kill()
    print("4 runs while a worker drained; lost: nothing")


def test_a_worker_that_is_told_twice_hands_its_build_over(
    site: Site, front: RunningServer, workers: Workers
) -> None:
    """The second SIGTERM ends it at once; the other worker goes on without waiting for the lease."""
    forge = front.forge
    name = forge.name("hold")
    arn = run_with(forge, workflow(forge, "BUILD", hold_document(name)))
    held(name)
    first = site.working_on()
    os.kill(workers[first].pid, signal.SIGTERM)
    soon(lambda: site.workers()[first].worker.state == "draining", "it drains")
    workers[first].stop()
    soon(lambda: site.workers()[other(first)].running, "the other worker has it")
    release(name)
    forge.finished(arn, seconds=SOON_SECONDS)
    ended(site, workers[other(first)], arn, "AVAILABLE")
    print("1 run, handed over; lost: nothing")


def test_two_servers_on_one_database(site: Site, front: RunningServer, workers: Workers) -> None:
    """Both take requests and see each other's builds; one may be killed, and every build ends once."""
    second = site.server("second")
    forges = [Forge(front), Forge(second)]
    recipes = [forge.recipe(forge.component(build="true")) for forge in forges]
    arns = [forges[turn].start(recipes[1 - turn]) for turn in (0, 1, 0, 1)]
    second.kill()
    for arn in arns:
        forges[0].finished(arn, seconds=SOON_SECONDS)
        soon(partial(any_ended, site, workers, arn), "its log ends")
        assert sum(site.log_on(worker, arn).count("end | AVAILABLE") for worker in workers.values()) == 1
    second.start()
    assert second.forge.state(arns[0]) == "AVAILABLE"
    second.stop()
    print("4 runs by two servers, of which one was killed; lost: nothing")


def test_two_hundred_builds_on_two_workers_with_two_places_each(
    site: Site, front: RunningServer, workers: Workers
) -> None:
    """All end, each exactly once, and no worker ever has more than its two."""
    forge = front.forge
    base = forge.build(forge.recipe(forge.component(build="true")))
    recipe = forge.recipe(forge.component(build="true"), parentImage=base["arn"])
    nothing = workflow(forge, "TEST", TEST + EMPTY)

    def start(_: int) -> str:
        return run_with(forge, nothing, recipe=recipe, enhancedImageMetadataEnabled=False)

    with ThreadPoolExecutor(4) as pool:
        arns = list(pool.map(start, range(NO_OP_BUILDS)))
    most: Counter[str] = Counter()
    left = set(arns)

    def over() -> bool:
        for name, seen in site.workers().items():
            most[name] = max(most[name], seen.running)
        left.difference_update([arn for arn in sorted(left)[:20] if forge.state(arn) in FINAL_IMAGE])
        return not left

    eventually(over, "all builds end", seconds=500, pause=0.2)
    ended = Counter(forge.state(arn) for arn in arns)
    soon(lambda: all(any_ended(site, workers, arn) for arn in arns), "their logs end")
    logs = [[site.log_on(worker, arn).count("end | ") for worker in workers.values()] for arn in arns]
    assert ended == {"AVAILABLE": NO_OP_BUILDS}
    assert [sum(ends) for ends in logs] == [1] * NO_OP_BUILDS
    assert all(0 < sum(ends[number] for ends in logs) < NO_OP_BUILDS for number in (0, 1))
    assert most["front"] == 0 and max(most.values()) <= 2
    shares = [sum(ends[number] for ends in logs) for number in (0, 1)]
    print(f"{NO_OP_BUILDS} runs on two workers ({shares[0]} and {shares[1]}); lost: nothing")
