"""The durable engine with small programs: order, once, cancel, waits, recovery after kill -9, on both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagesmith.builds.journal import Journal, Json, child_key
from imagesmith.engine.process import EngineProcess
from imagesmith.engine.run_execution import Program
from imagesmith.processes import Cancellation, Cancelled
from testing import engine_child
from testing.journal_notes import Notes, wait_for

CHILD = Path(engine_child.__file__)


def journal_of(database_url: str, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'journal.sqlite'}" if database_url.startswith("sqlite") else database_url


@contextmanager
def running(journal_url: str, program: Program, *, concurrency: int = 1) -> Iterator[EngineProcess]:
    engine = EngineProcess(journal_url, program, concurrency=concurrency)
    engine.launch()
    try:
        yield engine
    finally:
        engine.close()


def until_cancelled(cancellation: Cancellation) -> None:
    while True:
        cancellation.wait(0.05)
        cancellation.check()


def test_a_run_does_its_steps_in_order_and_once(database_url: str, tmp_path: Path) -> None:
    """Starting a key twice runs it once; a program sees the results of its steps."""
    notes = Notes()

    def program(key: str, journal: Journal) -> None:
        results = [journal.step(name, notes.step(key, name)) for name in ("one", "two")]
        journal.finalize("end", notes.end(key, " ".join(result["name"] for result in results)))

    with running(journal_of(database_url, tmp_path), program) as engine:
        for _ in range(3):
            engine.queue.start("image-a")
        wait_for(lambda: "image-a" in notes.ended)
        engine.queue.start("image-a")
        time.sleep(0.5)
    assert notes.steps == [("image-a", "one"), ("image-a", "two")]
    assert notes.ended == {"image-a": "one two"}


def test_runs_that_are_started_together_run_once_each(database_url: str, tmp_path: Path) -> None:
    """Also those that were started alone before, or are again after; the journal knows no difference."""
    notes = Notes()

    def program(key: str, journal: Journal) -> None:
        journal.step("one", notes.step(key, "one"))
        journal.finalize("end", notes.end(key, "ok"))

    keys = [f"image-{number}" for number in range(20)]
    with running(journal_of(database_url, tmp_path), program, concurrency=4) as engine:
        engine.queue.start(keys[3])
        engine.queue.start_many(keys)
        engine.queue.start_many(keys)
        engine.queue.start(keys[7])
        wait_for(lambda: len(notes.ended) == len(keys))
        engine.queue.start_many(keys[:1])
        # the queue is served in order: what was started again would have run before the last
        engine.queue.start("image-last")
        wait_for(lambda: "image-last" in notes.ended and engine.running == 0)
    assert sorted(notes.steps) == sorted((key, "one") for key in [*keys, "image-last"])


def test_a_cancelled_run_concludes_and_the_queue_goes_on(tmp_path: Path) -> None:
    """Cancel reaches the running step; the next run takes its place; never more run than allowed."""
    notes = Notes()
    most = 0

    def program(key: str, journal: Journal) -> None:
        nonlocal most
        most = max(most, engine.running)
        try:
            journal.step("one", notes.step(key, "one", until_cancelled if key == "image-slow" else lambda _: None))
        except Cancelled:
            journal.finalize("end", notes.end(key, "cancelled"))
            return
        journal.finalize("end", notes.end(key, "ok"))

    with running(f"sqlite:///{tmp_path / 'journal.sqlite'}", program) as engine:
        engine.queue.start("image-slow")
        wait_for(lambda: ("image-slow", "one") in notes.steps)
        engine.queue.start("image-next")
        engine.queue.cancel("image-slow")
        wait_for(lambda: "image-next" in notes.ended)
    assert notes.ended == {"image-slow": "cancelled", "image-next": "ok"}
    assert most == 1


def test_closing_interrupts_a_step_that_runs_again_after_the_next_launch(database_url: str, tmp_path: Path) -> None:
    """The finished step is not repeated, the interrupted one begins again."""
    notes = Notes()
    patient = True

    def program(key: str, journal: Journal) -> None:
        journal.step("one", notes.step(key, "one"))
        journal.step("two", notes.step(key, "two", until_cancelled if patient else lambda _: None))
        journal.finalize("end", notes.end(key, "ok"))

    url = journal_of(database_url, tmp_path)
    with running(url, program) as engine:
        engine.queue.start("image-a")
        wait_for(lambda: ("image-a", "two") in notes.steps)
    assert notes.ended == {}
    patient = False
    with running(url, program):
        wait_for(lambda: "image-a" in notes.ended)
    assert notes.steps == [("image-a", "one"), ("image-a", "two"), ("image-a", "two")]


def test_a_waiting_run_takes_no_place_and_goes_on_when_it_is_woken(database_url: str, tmp_path: Path) -> None:
    """Another run passes it on a queue of one place; a wake before there is an answer changes nothing."""
    notes = Notes()
    answers: dict[str, str] = {}
    polls: list[str] = []

    def program(key: str, journal: Journal) -> None:
        journal.step("one", notes.step(key, "one"))
        if key == "image-waits":

            def poll(_: Cancellation) -> Json | None:
                polls.append(key)
                return {"said": answers[key]} if key in answers else None

            journal.finalize("end", notes.end(key, journal.wait("answer", poll, seconds=600)["said"]))
        else:
            journal.finalize("end", notes.end(key, "ok"))

    with running(journal_of(database_url, tmp_path), program) as engine:
        engine.queue.start("image-waits")
        wait_for(lambda: polls == ["image-waits"] and engine.running == 0)
        engine.queue.start("image-passes")
        wait_for(lambda: "image-passes" in notes.ended)
        engine.queue.wake("image-waits")
        wait_for(lambda: len(polls) == 2 and engine.running == 0)
        engine.queue.wake("image-nobody-knows")
        answers["image-waits"] = "yes"
        engine.queue.wake("image-waits")
        wait_for(lambda: "image-waits" in notes.ended)
    assert notes.ended["image-waits"] == "yes"
    assert notes.steps.count(("image-waits", "one")) == 1


def test_a_wake_during_the_look_is_not_lost(tmp_path: Path) -> None:
    """An answer that comes between the look and the parking is found by a second look."""
    notes = Notes()
    looks = 0

    def program(key: str, journal: Journal) -> None:
        def poll(_: Cancellation) -> Json | None:
            nonlocal looks
            looks += 1
            if looks == 1:
                engine.queue.wake(key)
                return None
            return {}

        journal.wait("answer", poll, seconds=600)
        journal.finalize("end", notes.end(key, "ok"))

    with running(f"sqlite:///{tmp_path / 'journal.sqlite'}", program) as engine:
        engine.queue.start("image-a")
        wait_for(lambda: "image-a" in notes.ended)
    assert looks == 2


def test_a_wait_ends_with_its_time_also_over_a_restart(database_url: str, tmp_path: Path) -> None:
    """The timer is durable: nobody answers, the engine is stopped and started, and the run looks again in time."""
    notes = Notes()
    until = time.monotonic() + 3
    looks: list[float] = []

    def poll(_: Cancellation) -> Json | None:
        looks.append(time.monotonic())
        return {} if looks[-1] >= until else None

    def program(key: str, journal: Journal) -> None:
        late = journal.wait("answer", poll, seconds=3.1)
        journal.finalize("end", notes.end(key, f"late {late}"))

    url = journal_of(database_url, tmp_path)
    with running(url, program) as engine:
        engine.queue.start("image-a")
        wait_for(lambda: bool(looks) and engine.running == 0)
    with running(url, program):
        wait_for(lambda: "image-a" in notes.ended)
    assert time.monotonic() >= until


def test_a_cancelled_wait_ends_at_once(tmp_path: Path) -> None:
    """The poll of a run that waits is called again after a cancel, and may raise Cancelled."""
    notes = Notes()
    stop = Cancellation()

    def program(key: str, journal: Journal) -> None:
        def poll(_: Cancellation) -> Json | None:
            stop.check()
            return None

        try:
            journal.wait("answer", poll, seconds=600)
        except Cancelled:
            journal.finalize("end", notes.end(key, "cancelled"))

    with running(f"sqlite:///{tmp_path / 'journal.sqlite'}", program) as engine:
        engine.queue.start("image-a")
        wait_for(lambda: engine.running == 0)
        stop.cancel()
        engine.queue.cancel("image-a")
        wait_for(lambda: "image-a" in notes.ended)


def test_parts_of_a_run_go_on_while_it_waits_for_them(database_url: str, tmp_path: Path) -> None:
    """A run of a queue with one place starts parts, leaves, and is woken by each."""
    notes = Notes()

    def program(key: str, journal: Journal) -> None:
        if "#" in key:
            journal.step("work", notes.step(key, "work", lambda _: time.sleep(0.1)))
            journal.finalize("end", notes.end(key, "ok"))
            journal.wake("image-a")
            return
        parts = [child_key(key, name) for name in "abc"]

        def poll(_: Cancellation) -> Json | None:
            for part in parts:
                journal.start(part)
            return {} if all(part in notes.ended for part in parts) else None

        journal.wait("parts", poll, seconds=600)
        journal.finalize("end", notes.end(key, "ok"))

    with running(journal_of(database_url, tmp_path), program) as engine:
        engine.queue.start("image-a")
        wait_for(lambda: "image-a" in notes.ended)
    assert sorted(notes.steps) == [(f"image-a#{name}", "work") for name in "abc"]


@pytest.mark.parametrize("killed_in", ["one", "two", "three"])
def test_kill_9_in_any_step_loses_nothing(database_url: str, tmp_path: Path, killed_in: str) -> None:
    """After the restart the run goes on with the step that was cut off and ends once."""
    journal, log = journal_of(database_url, tmp_path), tmp_path / "log"
    log.touch()
    first = subprocess.Popen([sys.executable, str(CHILD), journal, str(log), killed_in])
    wait_for(lambda: f"begin {killed_in}" in log.read_text())
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    subprocess.run([sys.executable, str(CHILD), journal, str(log), "none"], check=True, timeout=60)
    lines = log.read_text().splitlines()
    assert lines[-1] == "finish"
    for name in ("one", "two", "three"):
        assert lines.count(f"end {name}") == 1
        assert lines.count(f"begin {name}") == (2 if name == killed_in else 1)
