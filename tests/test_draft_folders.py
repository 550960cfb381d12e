"""Folders for work in progress: a writer keeps its folder, and a killed writer's is removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagesmith.draft_folders import draft_folder, remove_abandoned
from imagesmith.locks import file_lock

WRITER = """
import sys
from pathlib import Path
from imagesmith.draft_folders import draft_folder
with draft_folder(Path(sys.argv[1]), lock=Path(sys.argv[2])) as folder:
    (folder / "half").write_text("written")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_killed_writer_is_removed_and_no_other(tmp_path: Path) -> None:
    """A sweep while the writer works keeps its folder; after kill -9 the next sweep removes it."""
    drafts, lock = tmp_path / "drafts", tmp_path / "lock"
    drafts.mkdir()
    argv = [sys.executable, "-c", WRITER, str(drafts), str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        folder = Path(writer.stdout.readline().strip())
        with file_lock(lock):
            assert remove_abandoned(drafts) == [] and (folder / "half").read_text() == "written"
        writer.kill()
    with file_lock(lock):
        assert remove_abandoned(drafts) == [folder.name] and not folder.exists()


def test_a_folder_lasts_as_long_as_its_work(tmp_path: Path) -> None:
    """It is removed at the end, also when the work fails or its result was moved out."""
    with draft_folder(tmp_path, lock=tmp_path / "lock") as folder:
        (folder / "result").touch()
        (folder / "result").rename(tmp_path / "result")
    with pytest.raises(OSError, match="full"), draft_folder(tmp_path, lock=tmp_path / "lock"):
        raise OSError("full")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["lock", "result"]


def test_stray_files_are_removed(tmp_path: Path) -> None:
    """A file or an unlocked folder belongs to no writer."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert remove_abandoned(tmp_path) == ["file", "folder"] and list(tmp_path.iterdir()) == []
