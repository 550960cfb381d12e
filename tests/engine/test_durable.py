"""The durable engine with small stages: order, once, cancel, recovery after kill -9, on both databases."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesmith.engine.durable import DurableEngine, Stages
from imagesmith.processes import Cancellation

CHILD = Path(__file__).parent / "engine_child.py"


def journal_of(database_url: str, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'journal.sqlite'}" if database_url.startswith("sqlite") else database_url


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("it did not happen in time")
        time.sleep(0.02)


class Notes:
    """What the stages of a test did."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.ended: dict[str, str] = {}

    def stage(self, name: str, work: Callable[[str, Cancellation], str] = lambda *_: "ok") -> Any:
        def run(image_arn: str, before: Mapping[str, Any], cancellation: Cancellation) -> dict[str, Any]:
            self.steps.append((image_arn, name))
            return {**before, name: True, "status": work(image_arn, cancellation)}

        return name, run

    def finish(self, image_arn: str, result: Mapping[str, Any], _stopping: Cancellation) -> dict[str, Any]:
        self.ended[image_arn] = json.dumps(result, sort_keys=True)
        return {}


def test_a_build_runs_its_stages_in_order_and_once(database_url: str, tmp_path: Path) -> None:
    """Starting an image twice builds it once; a stage sees the result of the one before."""
    notes = Notes()
    stages = Stages([notes.stage("one"), notes.stage("two")], notes.finish)
    engine = DurableEngine(journal_of(database_url, tmp_path), stages, concurrency=2)
    engine.launch()
    try:
        for _ in range(3):
            engine.start("image-a")
        wait_for(lambda: "image-a" in notes.ended)
        engine.start("image-a")
        time.sleep(0.5)
    finally:
        engine.close()
    assert notes.steps == [("image-a", "one"), ("image-a", "two")]
    assert json.loads(notes.ended["image-a"]) == {"one": True, "two": True, "status": "ok"}


def test_a_failing_stage_ends_the_build(database_url: str, tmp_path: Path) -> None:
    """Later stages do not run, finish gets the failure."""
    notes = Notes()
    stages = Stages([notes.stage("one", lambda *_: "failed"), notes.stage("two")], notes.finish)
    engine = DurableEngine(journal_of(database_url, tmp_path), stages, concurrency=1)
    engine.launch()
    try:
        engine.start("image-a")
        wait_for(lambda: "image-a" in notes.ended)
    finally:
        engine.close()
    assert notes.steps == [("image-a", "one")]
    assert json.loads(notes.ended["image-a"])["status"] == "failed"


def test_a_cancelled_build_stops_and_the_queue_goes_on(tmp_path: Path) -> None:
    """Cancel reaches the running stage; the next image takes its place; never more run than allowed."""
    notes = Notes()
    most = 0

    def work(image_arn: str, cancellation: Cancellation) -> str:
        nonlocal most
        most = max(most, engine.running)
        if image_arn == "image-slow":
            while True:
                cancellation.wait(0.05)
                cancellation.check()
        return "ok"

    stages = Stages([notes.stage("one", work)], notes.finish)
    engine = DurableEngine(f"sqlite:///{tmp_path / 'journal.sqlite'}", stages, concurrency=1)
    engine.launch()
    try:
        engine.start("image-slow")
        wait_for(lambda: engine.running == 1)
        engine.start("image-next")
        engine.cancel("image-slow")
        wait_for(lambda: "image-next" in notes.ended)
    finally:
        engine.close()
    assert json.loads(notes.ended["image-slow"])["status"] == "cancelled"
    assert most == 1


def test_closing_interrupts_a_stage_that_runs_again_after_the_next_launch(
    database_url: str, tmp_path: Path
) -> None:
    """The finished stage is not repeated, the interrupted one begins again."""
    notes = Notes()
    patient = {"wait": True}

    def work(_image_arn: str, cancellation: Cancellation) -> str:
        while patient["wait"]:
            cancellation.wait(0.05)
            cancellation.check()
        return "ok"

    def engine_of_this_test() -> DurableEngine:
        stages = Stages([notes.stage("one"), notes.stage("two", work)], notes.finish)
        return DurableEngine(journal_of(database_url, tmp_path), stages, concurrency=1)

    engine = engine_of_this_test()
    engine.launch()
    engine.start("image-a")
    wait_for(lambda: ("image-a", "two") in notes.steps)
    engine.close()
    assert notes.ended == {}
    patient["wait"] = False
    engine = engine_of_this_test()
    engine.launch()
    try:
        wait_for(lambda: "image-a" in notes.ended)
    finally:
        engine.close()
    assert notes.steps == [("image-a", "one"), ("image-a", "two"), ("image-a", "two")]


@pytest.mark.parametrize("killed_in", ["one", "two", "three"])
def test_kill_9_in_any_stage_loses_nothing(database_url: str, tmp_path: Path, killed_in: str) -> None:
    """After the restart the build goes on with the stage that was cut off and ends once."""
    journal, log = journal_of(database_url, tmp_path), tmp_path / "log"
    log.touch()
    first = subprocess.Popen([sys.executable, str(CHILD), journal, str(log), killed_in])
    wait_for(lambda: f"begin {killed_in}" in log.read_text())
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    subprocess.run([sys.executable, str(CHILD), journal, str(log), "none"], check=True, timeout=60)
    lines = log.read_text().splitlines()
    assert lines[-1] == "finish ok"
    for name in ("one", "two", "three"):
        assert lines.count(f"end {name}") == 1
        assert lines.count(f"begin {name}") == (2 if name == killed_in else 1)
