"""`imagesmith backup` and `imagesmith restore` as an operator types them, with wrong words too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from imagesmith.cli.backup import backup, restore
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.data_directory import prepare
from testing.data_folder import make_data_folder


def run(command: object, *arguments: str) -> str:
    """The output of a command. Raises what it raises."""
    found = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)  # type: ignore[arg-type]
    if found.exception is not None:
        raise found.exception
    return found.output


def test_a_backup_says_what_is_new(tmp_path: Path) -> None:
    """Totals for people, every member of the record for machines; a list of what there is."""
    data, copy = make_data_folder(tmp_path / "data"), tmp_path / "copy"
    assert "11 files" in run(backup, str(copy), "--data-dir", str(data))
    record = json.loads(run(backup, str(copy), "--data-dir", str(data), "--keep", "1", "--json"))
    # within one second, two backups of the same content are one
    assert record["copiedFiles"] == 0 and len(record["removed"]) <= 1 and record["database"] == "sqlite"
    assert [each["id"] for each in json.loads(run(restore, str(copy), "--list", "--json"))] == [record["id"]]
    assert record["id"] in run(restore, str(copy), "--list")
    assert run(restore, str(copy), "--check").startswith(f"the backup {record['id']} is whole: 11 files")
    output = run(restore, str(copy), "--data-dir", str(tmp_path / "moved"))
    assert output.startswith(f"restored {record['id']} into {tmp_path / 'moved'}: 11 files")


@pytest.mark.parametrize(("target", "message"), [
    ("data/inside", "is inside the data directory"),
    ("s3://", "has no bucket"),
    ("https://host/x", "cannot hold backups: expected a folder or s3://bucket"),
    ("file/x", "Not a directory"),
])  # fmt: skip
def test_a_target_that_cannot_hold_backups_is_refused(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written."""
    monkeypatch.chdir(tmp_path)
    make_data_folder(tmp_path / "data")
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandFailed, match=message):
        run(backup, target, "--data-dir", "data")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "file"}


@pytest.mark.parametrize(("arguments", "message"), [
    (("nothing",), "nothing holds no backups"),
    (("empty",), "empty holds no backups"),
    (("copy", "--backup", "2025"), "no backup has the id '2025'"),
    (("copy", "--data-dir", "data"), "data is not empty"),
])  # fmt: skip
def test_a_restore_that_cannot_work_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data directory stays as it was."""
    monkeypatch.chdir(tmp_path)
    make_data_folder(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    run(backup, "copy", "--data-dir", "data")
    with pytest.raises(CommandFailed, match=message):
        run(restore, *arguments, *(() if "--data-dir" in arguments else ("--data-dir", "new")))
    assert not (tmp_path / "new").exists()


def test_a_data_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """A misspelt path makes no empty backup, and neither does a folder without databases."""
    with pytest.raises(CommandFailed, match="there is no data directory"):
        run(backup, str(tmp_path / "copy"), "--data-dir", str(tmp_path / "misspelt"))
    (tmp_path / "other").mkdir()
    with pytest.raises(CommandFailed, match=r"engine\.sqlite does not exist"):
        run(backup, str(tmp_path / "copy"), "--data-dir", str(tmp_path / "other"))
    assert list((tmp_path / "copy" / "backups").iterdir()) == []


def test_a_damaged_blob_fails_the_command(tmp_path: Path) -> None:
    """The backup is there; the status tells a timer that somebody must look."""
    data, copy = make_data_folder(tmp_path / "data"), tmp_path / "copy"
    next((data / "disks" / "sha256").iterdir()).write_bytes(b"rot")
    with pytest.raises(CommandFailed, match="lacks 1 damaged files: disks/sha256/"):
        run(backup, str(copy), "--data-dir", str(data))
    assert len(list((copy / "backups").iterdir())) == 1


def test_no_server_starts_on_a_half_restored_folder(tmp_path: Path) -> None:
    """It would make an empty database beside the images."""
    folder = tmp_path / "moved"
    folder.mkdir(mode=0o700)
    (folder / "restoring.json").write_text("{}")
    with pytest.raises(CommandFailed, match="half restored"):
        prepare(folder)
