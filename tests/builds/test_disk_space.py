"""The disk reserve: given up when space is short, made again when there is plenty, never in the way of a cancel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.builds.disk_space import EmergencyDiskSpace
from imagesmith.processes import Cancellation, Cancelled
from testing.small_disk import small_disk_at

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
    reserve = EmergencyDiskSpace(disk)
    reserve.require()
    kept = disk / "reserve"
    assert kept.stat().st_blocks * 512 >= 24 * _MIB
    others = occupy(disk, 130 * _MIB)
    reserve.wait_for_disk_space(Cancellation())
    assert not kept.exists() and reserve.free >= 24 * _MIB
    others.unlink()
    reserve.wait_for_disk_space(Cancellation())
    assert kept.exists()


def test_a_disk_that_others_filled_is_waited_for(disk: Path) -> None:
    """wait_for_disk_space returns once there is space; require says at once that there is none."""
    reserve = EmergencyDiskSpace(disk)
    others = occupy(disk, 159 * _MIB)
    with pytest.raises(OSError, match="no space is left"):
        reserve.require()
    timer = threading.Timer(0.3, others.unlink)
    timer.start()
    started = time.monotonic()
    reserve.wait_for_disk_space(Cancellation())
    assert 0.2 < time.monotonic() - started < 5
    timer.join()


def test_a_cancel_ends_the_waiting(disk: Path) -> None:
    """Nothing is written then, however long the disk stays full."""
    reserve = EmergencyDiskSpace(disk)
    occupy(disk, 159 * _MIB)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        reserve.wait_for_disk_space(cancellation)
