"""Rows of workers and of the runs they claim: one holder at most, whatever happens in which order."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.engine import Connection

from imagesmith.engine.membership import Membership
from imagesmith.store import runs, tables, workers
from imagesmith.store.database import Database
from imagesmith.store.instances import StoredInstance, put_instance, suspended_instances
from imagesmith.store.migrate import upgrade
from imagesmith.store.records import Build
from imagesmith.store.runs import Fence, FenceLost
from imagesmith.store.stored_builds import put_build
from imagesmith.store.workers import StoredWorker, WorkerNameTaken
from testing.postgresql import new_postgresql_database

ARN = "arn:aws:imagebuilder:us-east-1:000000000000:image/web/1.0.0/1"
ONE = StoredWorker(
    id="id-1", name="one", host="host-1", pid=11, data_dir="/data", queues=("container.x86_64",), concurrency=2
)
TWO = dataclasses.replace(ONE, id="id-2", name="two", host="host-2")
LIMIT = 30.0


def age(tx: Connection, worker: str, seconds: float) -> None:
    """Have a worker be silent for so long."""
    older = tables.workers.c.heartbeat - int(seconds * 1_000_000)
    tx.execute(sa.update(tables.workers).where(tables.workers.c.id == worker).values(heartbeat=older))


def join(database: Database, *joining: StoredWorker) -> None:
    for worker in joining:
        with database.write("w") as tx:
            workers.join(tx, worker, limit_seconds=LIMIT)


def claimed(database: Database, worker: str, key: str = ARN) -> Fence:
    with database.write("w") as tx:
        fence = runs.claim(tx, key, ARN, worker)
    assert fence is not None
    return fence


def is_held(database: Database, fence: Fence) -> bool:
    with database.write("w") as tx:
        try:
            fence.check(tx)
        except FenceLost:
            return False
    return True


def test_a_worker_that_is_silent_too_long_loses_its_runs(database: Database) -> None:
    """It is gone for all, its fences no longer hold, and it can claim nothing; the others are not touched."""
    join(database, ONE, TWO)
    first, second = claimed(database, ONE.id), claimed(database, TWO.id, f"{ARN}#part")
    with database.write("w") as tx:
        age(tx, ONE.id, LIMIT + 1)
        [(ended, keys)] = workers.expire_silent_workers(tx, limit_seconds=LIMIT)
        assert (ended.name, keys) == ("one", [ARN])
        assert workers.heartbeat(tx, ONE.id) == "gone"
        assert workers.heartbeat(tx, TWO.id) == "alive"
        assert runs.claim(tx, ARN, ARN, ONE.id) is None
        assert workers.ids(tx) == ({TWO.id}, {ONE.id})
    assert not is_held(database, first)
    assert is_held(database, second)


def test_a_worker_that_is_heard_of_keeps_its_runs(database: Database) -> None:
    """Silence ends with a heartbeat; a worker that drains keeps what it has."""
    join(database, ONE)
    fence = claimed(database, ONE.id)
    with database.write("w") as tx:
        age(tx, ONE.id, LIMIT + 1)
        workers.heartbeat(tx, ONE.id)
        workers.drain(tx, ONE.id)
        assert workers.expire_silent_workers(tx, limit_seconds=LIMIT) == []
        assert workers.heartbeat(tx, ONE.id) == "draining"
        assert workers.names(tx) == (set(), {"one"})
    assert is_held(database, fence)


def test_a_successor_ends_its_predecessor_at_once(database: Database) -> None:
    """A worker that starts again on its data directory need not wait until the one before counts as silent."""
    join(database, ONE)
    fence = claimed(database, ONE.id)
    join(database, dataclasses.replace(ONE, id="id-1b", pid=12))
    assert not is_held(database, fence)
    with database.read() as tx:
        [seen] = workers.list_workers(tx)
    assert (seen.worker.id, seen.worker.state, seen.running) == ("id-1b", "alive", 0)


def test_processes_that_fire_by_other_time_zones_are_found(database: Database) -> None:
    """Those that live and say a version that differs; one that does not say is compared with nobody."""
    one, two = dataclasses.replace(ONE, zone_data="2026f"), dataclasses.replace(TWO, zone_data="2025b")
    silent = dataclasses.replace(ONE, id="id-3", name="three")
    join(database, one, two, silent)
    with database.read() as tx:
        assert [item.name for item in workers.other_zone_data(tx, one)] == ["two"]
        assert [item.name for item in workers.other_zone_data(tx, two)] == ["one"]
        assert workers.other_zone_data(tx, silent) == []
        assert {seen.worker.zone_data for seen in workers.list_workers(tx)} == {"2026f", "2025b", ""}
    with database.write("w") as tx:
        workers.end(tx, two.id)
        assert workers.other_zone_data(tx, one) == []


def test_a_process_that_joins_warns_of_other_time_zones(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Host, both versions, and what to do; nothing where all agree."""
    join(database, dataclasses.replace(TWO, zone_data="2025b"))
    numbers = itertools.count()
    for version, warned in (("2025b", False), ("2026f", True)):
        caplog.clear()
        one = dataclasses.replace(ONE, zone_data=version)
        Membership(database, one, limit_seconds=LIMIT, new_id=lambda: f"id-9{next(numbers)}").join()
        assert ("two on host-2 has time zones of 2025b, this process those of 2026f" in caplog.text) is warned


def test_a_name_belongs_to_one_place(database: Database) -> None:
    """A worker elsewhere cannot take the name of one that lives, only of one that fell silent."""
    join(database, ONE)
    elsewhere = dataclasses.replace(ONE, id="id-3", host="host-3")
    with pytest.raises(WorkerNameTaken, match=r"one.*host-1.*process 11"):
        join(database, elsewhere)
    with database.write("w") as tx:
        age(tx, ONE.id, LIMIT + 1)
    join(database, elsewhere)


def test_a_cancel_is_heard_by_who_has_the_run(database: Database) -> None:
    """And by nobody once another has claimed it: that one reads the state of the build."""
    join(database, ONE, TWO)
    claimed(database, ONE.id)
    with database.write("w") as tx:
        runs.request_cancel(tx, ARN)
        assert runs.cancel_requested(tx, ONE.id) == [ARN]
    claimed(database, TWO.id)
    with database.read() as tx:
        assert runs.cancel_requested(tx, ONE.id) == runs.cancel_requested(tx, TWO.id) == []


def test_a_run_goes_where_its_instance_is(database: Database) -> None:
    """As long as that worker takes work; a sweep on a worker leaves its own instances alone, and no others."""
    join(database, ONE, TWO)
    with database.write("w") as tx:
        put_build(tx, Build(ARN, {"kind": "machine"}))
        put_instance(tx, StoredInstance("i-1", ARN, "wf-1", suspended=True, worker="one"))
        assert runs.worker_with_instance(tx, ARN) == runs.worker_with_instance(tx, ARN, "wf-1") == "one"
        assert runs.worker_with_instance(tx, ARN, "wf-2") == ""
        assert suspended_instances(tx, "one") == ["i-1"]
        assert suspended_instances(tx, "two") == []
        workers.end(tx, ONE.id)
        assert runs.worker_with_instance(tx, ARN) == ""
        assert runs.kinds_of(tx, [ARN, "other"]) == {ARN: "machine"}


def test_a_write_of_another_view_is_refused(postgresql: str, tmp_path: Path) -> None:
    """A database under a fence writes only while that holds; what it refused leaves no trace."""
    database = Database(new_postgresql_database(postgresql))
    upgrade(database)
    join(database, ONE, TWO)
    mine = database.guarded(claimed(database, ONE.id).check)
    with mine.write("s") as tx:
        put_build(tx, Build(ARN, {"kind": "container"}))
    claimed(database, TWO.id)
    with pytest.raises(FenceLost, match=ARN), mine.write("s") as tx:
        put_build(tx, Build("never", {}))
    with database.read() as tx:
        assert list(runs.kinds_of(tx, [ARN, "never"])) == [ARN]
    database.close()


class Claims(RuleBasedStateMachine):
    """Workers that join, claim, fall silent and end in any order: the last claim of a living worker holds alone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.database = Database(f"sqlite:///{self.folder.name}/store.sqlite")
        self.holder: dict[str, Fence] = {}
        self.owner: dict[str, str] = {}
        self.fences: list[Fence] = []
        self.alive: set[str] = set()
        self.started = 0

    @initialize()
    def schema(self) -> None:
        with self.database.write("s") as tx:
            tables.metadata.create_all(tx)

    names = st.sampled_from(["one", "two"])
    keys = st.sampled_from([ARN, f"{ARN}#part"])

    def _ended(self, worker: str) -> None:
        self.alive.discard(worker)
        for key in [key for key, owner in self.owner.items() if owner == worker]:
            del self.holder[key], self.owner[key]

    @rule(name=names)
    def join(self, name: str) -> None:
        self.started += 1
        id = f"{name}-{self.started}"
        join(self.database, dataclasses.replace(ONE, id=id, name=name))
        for before in [worker for worker in self.alive if worker.startswith(name)]:
            self._ended(before)
        self.alive.add(id)

    @rule(name=names, key=keys)
    def claim(self, name: str, key: str) -> None:
        id = next((worker for worker in self.alive if worker.startswith(name)), f"{name}-0")
        with self.database.write("s") as tx:
            fence = runs.claim(tx, key, ARN, id)
        assert (fence is not None) == (id in self.alive)
        if fence is not None:
            assert fence not in self.fences
            self.fences.append(fence)
            self.holder[key], self.owner[key] = fence, id

    @rule(name=names)
    def fall_silent(self, name: str) -> None:
        for id in [worker for worker in self.alive if worker.startswith(name)]:
            with self.database.write("s") as tx:
                age(tx, id, LIMIT + 1)
                assert [ended.id for ended, _ in workers.expire_silent_workers(tx, limit_seconds=LIMIT)] == [id]
            self._ended(id)

    @invariant()
    def one_holder(self) -> None:
        held = [fence for fence in self.fences if is_held(self.database, fence)]
        assert sorted(held, key=lambda it: it.key) == sorted(self.holder.values(), key=lambda it: it.key)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestClaims = Claims.TestCase
TestClaims.settings = hypothesis_settings(max_examples=30, stateful_step_count=25, deadline=None)
