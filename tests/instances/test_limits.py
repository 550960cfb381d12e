"""Control groups of both kinds, on folders that look like them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.instances.limits import (
    ControlGroups,
    ResourceLimits,
    find_groups,
    leftover_groups,
    make_groups,
    remove_group,
)


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A folder like the mount point of control groups, version 2."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_limits_of_version_2_stand_above_the_leaf_with_the_processes(unified: Path) -> None:
    """A group that holds processes cannot pass limits on to groups below it."""
    groups = make_groups("b1-build", ResourceLimits(processes=7, memory_mb=3), mount=unified)
    folder = unified / "imagesmith" / "b1-build"
    assert (folder / "pids.max").read_text() == "7"
    assert (folder / "memory.max").read_text() == str(3 * 1024 * 1024)
    assert groups.entrances == (folder / "main",)
    assert groups.missing == ()


def test_without_control_groups_the_missing_limits_are_named(tmp_path: Path) -> None:
    """What cannot be enforced is said in words."""
    groups = make_groups("x", ResourceLimits(), mount=tmp_path / "absent")
    assert groups.folders == () and groups.entrances == ()
    assert len(groups.missing) == 2
    assert any("processes" in text for text in groups.missing) and any("memory" in text for text in groups.missing)


def test_this_machine_enforces_both_limits() -> None:
    """Here both groups can be made, hold their values and go away."""
    groups = make_groups("test-limits", ResourceLimits(processes=11, memory_mb=5))
    try:
        assert groups.missing == () and groups.folders
        values = {
            place.name: place.read_text().strip() for folder in groups.folders for place in folder.glob("*.max")
        }
        assert values.get("pids.max") == "11"
    finally:
        groups.remove()
    assert leftover_groups("test-limits") == ()


def test_groups_go_with_the_groups_below_them(tmp_path: Path) -> None:
    """What was made inside is removed first."""
    (tmp_path / "top" / "run" / "deep").mkdir(parents=True)
    assert remove_group(tmp_path / "top") and not (tmp_path / "top").exists()
    assert remove_group(tmp_path / "top")


def test_leftovers_are_found_by_prefix_in_both_layouts(tmp_path: Path) -> None:
    """Groups of another server, which has another prefix, are not ours."""
    wanted = [
        tmp_path / "pids/imagesmith-aaa-1",
        tmp_path / "memory/deep/imagesmith-aaa-1",
        tmp_path / "imagesmith/aaa-2",
    ]
    for folder in [*wanted, tmp_path / "pids/imagesmith-bbb-1", tmp_path / "imagesmith/bbb-2"]:
        folder.mkdir(parents=True)
    assert sorted(leftover_groups("aaa", mount=tmp_path)) == sorted(wanted)


def test_memory_kills_are_counted(tmp_path: Path) -> None:
    """The count is read from the file of either version."""
    assert ControlGroups((tmp_path,), ()).out_of_memory() == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n")
    assert ControlGroups((tmp_path,), ()).out_of_memory() == 2


UNIFIED = [place for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if Path(place, "cgroup.procs").is_file()]
FREEZERS = [
    *((place, "cgroup.freeze", "1") for place in UNIFIED),
    *((place, "freezer.state", "FROZEN") for place in ["/sys/fs/cgroup/freezer"] if Path(place).is_dir()),
]
"""The freezers of this machine, of either version."""


@pytest.fixture(params=FREEZERS, ids=lambda freezer: freezer[1])
def frozen(request: pytest.FixtureRequest) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A process that is frozen in a group below a group of the machine's freezer."""
    place, name, state = request.param
    folder = Path(place) / "imagesmith-test-frozen" / "below"
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(["sleep", "600"])
    (folder / "cgroup.procs").write_text(str(process.pid))
    (folder / name).write_text(state)
    yield folder, process
    (folder / name).write_text("0" if state == "1" else "THAWED") if folder.exists() else None
    process.kill()
    process.wait()
    ControlGroups(find_groups("imagesmith-test-frozen".__eq__), ()).remove()


def test_groups_with_frozen_processes_go_with_them(frozen: tuple[Path, subprocess.Popen[bytes]]) -> None:
    """Whatever is frozen in a group or below it is thawed and killed."""
    folder, process = frozen
    ControlGroups((folder.parent,), ()).remove()
    assert process.wait(30) == -9
    assert not folder.parent.exists()


def test_what_is_frozen_by_another_hierarchy_is_ended(
    tmp_path: Path, frozen: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    """A process of our group that sits frozen in some other group of the freezer ends all the same."""
    _, process = frozen
    groups = make_groups("test-frozen-elsewhere", ResourceLimits())
    (groups.entrances[0] / "cgroup.procs").write_text(str(process.pid))
    groups.remove()
    assert process.wait(30) == -9
    assert leftover_groups("test-frozen-elsewhere") == ()


def test_stopped_processes_and_groups_of_their_own_go_too() -> None:
    """Neither SIGSTOP nor a session of its own keeps a process of a group alive."""
    groups = make_groups("test-stopped", ResourceLimits())
    script = "echo 0 >$0/cgroup.procs; setsid sleep 600 & kill -STOP $$"
    process = subprocess.Popen(["sh", "-c", script, str(groups.entrances[0])])
    assert process.pid and os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    groups.remove()
    assert process.wait(30) == -9
    assert leftover_groups("test-stopped") == ()
