"""The disk reserve: given up when space is short, made again when there is plenty, never in the way of a cancel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.processes import Cancellation, Cancelled
from imagesmith.store.database import StoreUnavailable
from imagesmith.workflows.reserve import DiskReserve, insist
from small_disk import small_disk_at

pytestmark = pytest.mark.tool

_MIB = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MiB."""
    with small_disk_at(tmp_path / "disk", megabytes=160) as place:
        yield place


def occupy(disk: Path, size: int) -> Path:
    place = disk / "others"
    place.write_bytes(b"\0" * size)
    return place


def test_the_reserve_comes_and_goes(disk: Path) -> None:
    """It takes space while there is plenty, gives it back when little is left, and takes it again later."""
    reserve = DiskReserve(disk)
    reserve.require()
    kept = disk / "reserve"
    assert kept.stat().st_blocks * 512 >= 24 * _MIB
    others = occupy(disk, 130 * _MIB)
    reserve.make_room(Cancellation())
    assert not kept.exists() and reserve.free >= 24 * _MIB
    others.unlink()
    reserve.make_room(Cancellation())
    assert kept.exists()


def test_a_disk_that_others_filled_is_waited_for(disk: Path) -> None:
    """make_room returns once there is space; require says at once that there is none."""
    reserve = DiskReserve(disk)
    others = occupy(disk, 159 * _MIB)
    with pytest.raises(OSError, match="no space is left"):
        reserve.require()
    timer = threading.Timer(0.3, others.unlink)
    timer.start()
    started = time.monotonic()
    reserve.make_room(Cancellation())
    assert 0.2 < time.monotonic() - started < 5
    timer.join()


def test_a_cancel_ends_the_waiting(disk: Path) -> None:
    """Waiting for space or for the database ends with a cancel."""
    reserve = DiskReserve(disk)
    occupy(disk, 159 * _MIB)
    cancellation = Cancellation()
    cancellation.cancel()

    def fail() -> None:
        raise StoreUnavailable("away")

    with pytest.raises(Cancelled):
        insist(fail, reserve, cancellation)
    with pytest.raises(Cancelled):
        reserve.make_room(cancellation)


def test_a_write_is_tried_until_the_database_is_back(disk: Path) -> None:
    """insist gives the first answer that is no StoreUnavailable."""
    answers: list[Exception | str] = [StoreUnavailable("away"), "written"]

    def write() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert insist(write, DiskReserve(disk), Cancellation()) == "written"
