"""A journal that cannot be written for a while: builds are late, and none is lost or ends twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.test_durable import Notes, wait_for
from imagesmith.engine.durable import DurableEngine, Stages
from imagesmith.processes import Cancellation
from small_disk import fill, small_disk_at

pytestmark = pytest.mark.tool


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disk_at(tmp_path / "disk", megabytes=4) as place:
        yield place


def test_a_build_goes_on_when_its_journal_can_be_written_again(small_disk: Path) -> None:
    """The stage whose end could not be journalled runs again; the build ends once; one that was started waits."""
    notes = Notes()
    tries: list[str] = []

    def work(image_arn: str, _cancellation: Cancellation) -> str:
        tries.append(image_arn)
        if len(tries) == 1:
            fill(small_disk)
        return "ok"

    endings: list[str] = []

    def finish(image_arn: str, result: Mapping[str, Any], _stopping: Cancellation) -> dict[str, Any]:
        endings.append(f"{image_arn} {result['status']}")
        return {}

    stages = Stages([notes.stage("one"), notes.stage("two", work)], finish)
    engine = DurableEngine(f"sqlite:///{small_disk / 'journal.sqlite'}", stages, concurrency=1)
    engine.launch()
    try:
        engine.start("image-a")
        wait_for(lambda: len(tries) == 1)
        engine.start("image-b")
        (small_disk / "ballast").unlink()
        wait_for(lambda: len(endings) == 2)
    finally:
        engine.close()
    assert sorted(endings) == ["image-a ok", "image-b ok"]
    assert notes.steps.count(("image-a", "one")) == 1


def test_room_for_the_journal_is_asked_for_before_every_write(tmp_path: Path) -> None:
    """The engine lets somebody else see to it that there is space, after each stage and after the end."""
    notes = Notes()
    asked: list[bool] = []
    engine = DurableEngine(
        f"sqlite:///{tmp_path / 'journal.sqlite'}",
        Stages([notes.stage("one"), notes.stage("two")], notes.finish),
        concurrency=1,
        make_room=lambda cancellation: asked.append(cancellation.requested),
    )
    engine.launch()
    try:
        engine.start("image-a")
        wait_for(lambda: len(asked) == 3)
    finally:
        engine.close()
    assert asked == [False, False, False]
