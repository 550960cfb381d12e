"""What the engine relies on in DBOS without DBOS having published it, against the installed DBOS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dbos import DBOS, DBOSConfig

from imagesmith.engine import dbos_private
from imagesmith.engine.dbos_private import ClaimLimit, IncompatibleDBOS
from imagesmith.engine.journal_database import open_journal

SECONDS = 30.0


class Program:
    """A workflow that waits until it is let go, and counts how many run at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = 0
        self.most = 0
        self.done = 0
        self._lock = threading.Lock()
        self._workflow: Callable[[str], str] | None = None

    def register(self) -> None:
        """Make it a workflow of the DBOS that is about to launch; a bound method cannot be one."""

        def run(key: str) -> str:
            return self.run(key)

        self._workflow = DBOS.workflow(name="work")(run)

    def enqueue(self, count: int) -> None:
        assert self._workflow is not None
        for _ in range(count):
            DBOS.enqueue_workflow("work", self._workflow, "key")

    def run(self, key: str) -> str:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.wait(SECONDS)
        with self._lock:
            self.running -= 1
            self.done += 1
        return key


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def dbos(tmp_path: Path, program: Program) -> Iterator[DBOS]:
    """A launched DBOS on SQLite with one queue, `work`."""
    config: DBOSConfig = {
        "name": "imagesmith",
        "application_version": "1",
        "executor_id": "me",
        "log_level": "ERROR",
    }
    journal = open_journal(f"sqlite:///{tmp_path / 'journal.sqlite'}", config)
    made = DBOS(config=config)
    program.register()
    DBOS.launch()
    DBOS.register_queue("work", worker_concurrency=1, polling_interval_sec=0.05, on_conflict="always_update")
    try:
        yield made
    finally:
        program.go.set()
        dbos_private.stop_background_threads(made)
        DBOS.destroy(destroy_registry=True)
        journal.dispose()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_installed_dbos_is_one_that_can_be_driven(dbos: DBOS) -> None:
    """Its private members have the signatures that the module was written for."""
    dbos_private.check(dbos)
    dbos_private.check_queue(dbos, "work")


def changed_signature(system: Any) -> None:
    system.start_queued_workflows = lambda queue, executor_id, limit: ([], None)


def removed_method(system: Any) -> None:
    system.get_queue = None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_signature, "start_queued_workflows() takes (queue, executor_id, limit)"),
        (removed_method, "get_queue()"),
    ],
)
def test_another_dbos_is_refused_with_a_sentence(dbos: DBOS, change: Callable[[Any], None], named: str) -> None:
    """The text names the member, the installed version and what to install."""
    change(dbos._sys_db)
    with pytest.raises(IncompatibleDBOS) as refused:
        dbos_private.check(dbos)
    assert named in str(refused.value) and "requirements/run.txt" in str(refused.value)


def test_a_dbos_without_its_list_of_workflows_is_refused(dbos: DBOS) -> None:
    """Closing an engine relies on it."""
    other = SimpleNamespace(_sys_db=dbos._sys_db, background_thread_stop_events=[])
    with pytest.raises(IncompatibleDBOS, match="_active_workflows_set"):
        dbos_private.check(other)  # type: ignore[arg-type]


def test_dbos_claims_what_the_limit_allows_and_tells_what_it_claimed(dbos: DBOS, program: Program) -> None:
    """The limit is asked each time, and every run that is claimed is announced before it starts."""
    claimed: list[str] = []
    running: Callable[[], int] = lambda: len(claimed) - program.done  # noqa: E731

    def note(queue: str, keys: Sequence[str]) -> None:
        assert queue == "work"
        claimed.extend(keys)

    limit = ClaimLimit({"work"}, threading.Lock(), free=lambda _: max(3 - running(), 0), claimed=note)
    dbos_private.limit_claims(dbos, limit)
    program.enqueue(7)
    until(lambda: program.running == 3)
    assert len(dbos_private.active_workflows(dbos)) == 3
    program.go.set()
    until(lambda: program.done == 7)
    assert program.most == 3 and len(set(claimed)) == 7


def test_polls_wait_until_they_are_let_go(dbos: DBOS, program: Program) -> None:
    """A polling thread blocks in `wait` before each poll; a read of the queue by anybody else does not."""
    waits, poll = threading.Semaphore(0), threading.Semaphore(0)

    def wait(queue: str) -> None:
        assert queue == "work"
        waits.release()
        poll.acquire(timeout=SECONDS)

    program.go.set()
    dbos_private.wait_before_polls(dbos, ["work"], wait)
    assert waits.acquire(timeout=SECONDS)
    program.enqueue(1)
    assert dbos._sys_db.get_queue("work") is not None
    assert program.done == 0
    for _ in range(100):
        poll.release()
    until(lambda: program.done == 1)
