"""One of several workers on a PostgreSQL: what it takes and how much at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from imagesmith.builds.journal import Journal, Json
from imagesmith.engine.membership import Membership
from imagesmith.engine.process import EngineProcess
from imagesmith.engine.queues import CAPABILITIES, Queues
from imagesmith.engine.run_execution import Program
from imagesmith.processes import Cancellation
from imagesmith.store.database import Database
from imagesmith.store.workers import StoredWorker
from testing.pipeline_support import eventually

RUNS = 8
TOGETHER = 2


@contextmanager
def worker(database: Database, url: str, program: Program, place: Path, *, overall: int) -> Iterator[EngineProcess]:
    """A worker with four places of its own."""
    numbers = count(1)
    stored = StoredWorker(
        id="", name="one", host="here", pid=os.getpid(), data_dir=str(place), queues=CAPABILITIES, concurrency=4
    )
    membership = Membership(database, stored, limit_seconds=60, new_id=lambda: f"worker-{next(numbers)}")
    queues = Queues.shared("one", CAPABILITIES, concurrency=4, overall=overall)
    engine = EngineProcess(url, program, concurrency=4, membership=membership, queues=queues)
    engine.launch()
    try:
        yield engine
    finally:
        engine.close()


class Counted:
    """A program of one step that waits until as many run as may; and how many ran at once."""

    def __init__(self, wanted: int) -> None:
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._wanted = wanted
        self._running = 0
        self.most = 0
        self.waited_in_vain: list[str] = []
        self.ended: list[str] = []

    def __call__(self, key: str, journal: Journal) -> None:
        def work(_: Cancellation) -> Json:
            with self._lock:
                self._running += 1
                self.most = max(self.most, self._running)
                if self._running == self._wanted:
                    self._enough.set()
            if not self._enough.wait(30):
                self.waited_in_vain.append(key)
            time.sleep(0.1)
            with self._lock:
                self._running -= 1
                self.ended.append(key)
            return {}

        journal.step("work", work)


@pytest.mark.tool
@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize(("overall", "most"), [(TOGETHER, TOGETHER), (0, 4)], ids=["overall", "own"])
def test_no_more_run_at_once_than_may(
    database: Database, database_url: str, tmp_path: Path, overall: int, most: int
) -> None:
    """Of what all workers together may, and of what one may; all end, once each."""
    program = Counted(most)
    with worker(database, database_url, program, tmp_path, overall=overall) as engine:
        engine.queue.start("image-0")
        eventually(lambda: program.most, "the first run begins", seconds=60)
        engine.queue.start_many([f"image-{number}" for number in range(1, RUNS)])
        eventually(lambda: len(program.ended) == RUNS, "all runs end", seconds=60)
    assert sorted(program.ended) == [f"image-{number}" for number in range(RUNS)]
    assert program.most == most
    assert program.waited_in_vain == []
