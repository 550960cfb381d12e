"""A journal that cannot be written for a while: builds are late, and none is lost or ends twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.builds.journal import Journal, Json
from imagesmith.engine.process import EngineProcess
from imagesmith.processes import Cancellation
from testing.journal_notes import Notes, wait_for
from testing.small_disk import fill, small_disk_at

pytestmark = pytest.mark.tool


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disk_at(tmp_path / "disk", megabytes=4) as place:
        yield place


def test_a_build_goes_on_when_its_journal_can_be_written_again(small_disk: Path) -> None:
    """The step whose end could not be journalled runs again; the build ends once; those that were started wait."""
    notes = Notes()
    tries: list[str] = []
    endings: list[str] = []

    def program(key: str, journal: Journal) -> None:
        def work(_: Cancellation) -> Json:
            tries.append(key)
            if len(tries) == 1:
                fill(small_disk)
            return {}

        def end(_: Cancellation) -> Json:
            endings.append(key)
            return {}

        journal.step("one", notes.step(key, "one"))
        journal.step("two", work)
        journal.finalize("end", end)

    engine = EngineProcess(f"sqlite:///{small_disk / 'journal.sqlite'}", program, concurrency=1)
    engine.launch()
    try:
        engine.queue.start("image-a")
        wait_for(lambda: len(tries) == 1)
        engine.queue.start("image-b")
        engine.queue.start_many(["image-c", "image-d"])
        (small_disk / "ballast").unlink()
        wait_for(lambda: len(endings) == 4)
    finally:
        engine.close()
    assert sorted(endings) == ["image-a", "image-b", "image-c", "image-d"]
    assert notes.steps.count(("image-a", "one")) == 1


def test_room_for_the_journal_is_asked_for_before_every_write(tmp_path: Path) -> None:
    """The engine lets somebody else see to it that there is space, after each step and after the end."""
    notes = Notes()
    asked: list[bool] = []

    def program(key: str, journal: Journal) -> None:
        for name in ("one", "two"):
            journal.step(name, notes.step(key, name))
        journal.finalize("end", notes.end(key, "ok"))

    engine = EngineProcess(
        f"sqlite:///{tmp_path / 'journal.sqlite'}", program,
        concurrency=1, wait_for_disk_space=lambda cancellation: asked.append(cancellation.requested),
    )  # fmt: skip
    engine.launch()
    try:
        engine.queue.start("image-a")
        wait_for(lambda: len(asked) == 3)
    finally:
        engine.close()
    assert asked == [False, False, False]
