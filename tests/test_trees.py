"""Folders of any depth are removed and searched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.trees import TreeNotRead, find_names, remove_tree, temporary_tree

DEEP = (0, 20, 21, 1200, 5000)
"""Small; the deepest that is small and the first that is not; more than Python recurses; more than a path holds."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed by other means in the end: pytest's own way ends with RecursionError."""
    made = tmp_path / "folder"
    made.mkdir()
    yield made
    subprocess.run(["rm", "-rf", "--", str(made)], check=True)


def nest(top: Path, depth: int, name: str) -> None:
    """Folders in each other, and a file in the deepest one."""
    place = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open(name, os.O_CREAT, dir_fd=place))
    os.close(place)


@pytest.mark.parametrize("depth", DEEP)
def test_deep_folders_are_removed(folder: Path, depth: int) -> None:
    """By name, and at the end of a block that failed."""
    (folder / "one").mkdir()
    nest(folder / "one", depth, "file")
    assert remove_tree(folder / "one") and not (folder / "one").exists()
    with pytest.raises(KeyError), temporary_tree(prefix="a-", folder=folder) as made:
        nest(made, depth, "file")
        raise KeyError
    assert list(folder.iterdir()) == []


def test_links_files_and_absent_places_are_removed(folder: Path) -> None:
    """A link goes, and not what it points to; nothing to remove is no failure; names may look like options."""
    (folder / "kept").mkdir()
    (folder / "link").symlink_to("kept")
    (folder / "-rf").write_text("x")
    assert all(remove_tree(folder / name) for name in ("link", "-rf", "absent"))
    assert [place.name for place in folder.iterdir()] == ["kept"]


@pytest.mark.parametrize("files", [499, 500, 501, 2000])
def test_many_files_are_removed_and_searched(folder: Path, files: int) -> None:
    """Whoever does it; folders among them, and a link out of them is not followed."""
    outside, tree = folder / "outside", folder / "tree"
    (outside / ".wh.outside").mkdir(parents=True)
    (tree / "x").mkdir(parents=True)
    (tree / "x" / "link").symlink_to(outside)
    for number in range(files - 3):
        (tree / "x" / f"{number}").touch()
    (tree / "x" / ".wh.\udcff").mkdir()
    assert find_names(tree, ".wh.*", limit=65536) == ["/x/.wh.\udcff"]
    assert remove_tree(tree) and [place.name for place in folder.iterdir()] == ["outside"]
    assert list(outside.iterdir())


@pytest.mark.tool
def test_what_cannot_be_removed_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mount is left alone, with what is in it."""
    place = folder / "one" / "mounted"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        (place / "file").write_text("x")
        assert not remove_tree(folder / "one")
        assert (place / "file").exists() and "cannot be removed" in caplog.text
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("depth", DEEP)
def test_names_are_found_at_any_depth(folder: Path, depth: int) -> None:
    """Also where the path is longer than the kernel takes."""
    nest(folder, depth, ".wh.a")
    assert find_names(folder, ".wh.*", limit=65536) == ["/" + "d/" * depth + ".wh.a"]


def test_found_names_are_whole_and_bounded(folder: Path) -> None:
    """Any bytes but NUL may be in them; of too many, those that fit are returned."""
    names = [f".wh.{number}\n" for number in range(1000)]
    for name in names:
        (folder / name).touch()
    assert find_names(folder, ".wh.*", limit=65536) == sorted(f"/{name}" for name in names)
    few = find_names(folder, ".wh.*", limit=100)
    assert 0 < len(few) < 20 and {name[1:] for name in few} <= set(names)


def test_a_tree_that_is_not_there_is_an_error(folder: Path) -> None:
    """Nothing found and nothing read are two things."""
    with pytest.raises(TreeNotRead, match="cannot be searched"):
        find_names(folder / "absent", "*", limit=100)
