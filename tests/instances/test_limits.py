"""Control groups of both kinds, on folders that look like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.instances.limits import ControlGroups, Limits, leftover_groups, make_groups, remove_group


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A folder like the mount point of control groups, version 2."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_limits_of_version_2_stand_above_the_leaf_with_the_processes(unified: Path) -> None:
    """A group that holds processes cannot have groups below it, which runc needs to make."""
    groups = make_groups("b1-build", Limits(processes=7, memory_mb=3), mount=unified)
    folder = unified / "imagesmith" / "b1-build"
    assert (folder / "pids.max").read_text() == "7"
    assert (folder / "memory.max").read_text() == str(3 * 1024 * 1024)
    assert groups.entrances == (folder / "main",) and groups.parent == "/imagesmith/b1-build"
    assert groups.missing == ()


def test_without_control_groups_the_missing_limits_are_named(tmp_path: Path) -> None:
    """What cannot be enforced is said in words."""
    groups = make_groups("x", Limits(), mount=tmp_path / "absent")
    assert groups.folders == () and groups.entrances == ()
    assert len(groups.missing) == 2
    assert any("processes" in text for text in groups.missing) and any("memory" in text for text in groups.missing)


def test_this_machine_enforces_both_limits() -> None:
    """Here both groups can be made, hold their values and go away."""
    groups = make_groups("test-limits", Limits(processes=11, memory_mb=5))
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
    """What runc left inside is removed first."""
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
