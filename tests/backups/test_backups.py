"""Backups in folders and buckets: complete, incremental, checked, restored elsewhere; never half."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from imagesmith.artifacts.shared_kinds import open_shared_store
from imagesmith.backups.checking import check_backup
from imagesmith.backups.listing import entries_of, find_backup, list_backups, remove_old
from imagesmith.backups.manifest import RESTORING, BackupEntryKind, BackupError, parse_entries
from imagesmith.backups.restoring import RestoreTarget, restore_backup
from testing.data_folder import OpenRepository, Take, add_record, contents, has_record, make_data_folder, put_blob

LEFT_OUT = {"containers/cache", "machines/run", "server.json", "oci/tmp/half", "disks/drafts/half", "removals.lock"}


def restored(repository: OpenRepository, folder: Path, wanted: str = "") -> Path:
    with repository() as opened:
        restore_backup(opened, find_backup(opened, wanted), RestoreTarget(folder))
    return folder


def kept(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path: found
        for path, found in contents(folder).items()
        if path not in LEFT_OUT and not path.startswith("backup-drafts")
    }


def test_a_backup_is_restored_elsewhere(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """Every file has its bytes and mode, names of one file stay one file, and the records are there."""
    data = make_data_folder(tmp_path / "data")
    take(data)
    expected = kept(data)
    shutil.rmtree(data)
    moved = restored(repository, tmp_path / "moved")
    assert kept(moved) == expected
    assert has_record(f"sqlite:///{moved / 'imagesmith.sqlite'}", "kept")
    assert (moved / "logs/web.log").samefile(moved / "log-groups/web.log")
    assert not (moved / RESTORING).exists() and moved.stat().st_mode & 0o777 == 0o700


def test_only_new_content_is_copied(take: Take, tmp_path: Path) -> None:
    """A second backup copies the databases that changed and the new blob, and a third of nothing new no blob."""
    data = make_data_folder(tmp_path / "data")
    first, _ = take(data)
    put_blob(data / "oci/blobs/sha256", b"another")
    add_record(f"sqlite:///{data / 'imagesmith.sqlite'}", "later")
    second, progress = take(data)
    assert first.id != second.id and second.files == first.files + 1
    assert progress.copied == 2
    assert take(data)[1].copied == 0


def test_each_backup_is_of_its_moment(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """An older backup is restored by its id; the start of it is enough, and an unknown one is refused by name."""
    data = make_data_folder(tmp_path / "data")
    old, _ = take(data)
    add_record(f"sqlite:///{data / 'imagesmith.sqlite'}", "later")
    (data / "logs/web.log").write_text("begun\nended\n")
    take(data)
    newest = restored(repository, tmp_path / "newest")
    before = restored(repository, tmp_path / "before", old.id[:-4])
    assert (newest / "logs/web.log").read_text() == "begun\nended\n"
    assert (before / "logs/web.log").read_text() == "begun\n"
    assert not has_record(f"sqlite:///{before / 'imagesmith.sqlite'}", "later")
    with repository() as opened, pytest.raises(BackupError, match=f"no backup has the id 'x'; known: {old.id}"):
        find_backup(opened, "x")


def test_old_backups_are_removed_with_what_only_they_need(
    take: Take, repository: OpenRepository, tmp_path: Path
) -> None:
    """The rest stays whole, and can be restored."""
    data = make_data_folder(tmp_path / "data")
    gone = put_blob(data / "oci/blobs/sha256", b"only in the first")
    first, _ = take(data)
    gone.unlink()
    second, _ = take(data)
    with repository(new=True) as opened:
        assert remove_old(opened, 1, "") == [first.id]
        assert [record.id for record in list_backups(opened)] == [second.id]
        assert f"sha256:{gone.name}" not in opened.digests()
        assert check_backup(opened, second) == []
    assert kept(restored(repository, tmp_path / "moved")) == kept(data)


def test_a_damaged_blob_is_left_out_and_named(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """The rest is backed up; the record says what the backup lacks."""
    data = make_data_folder(tmp_path / "data")
    blob = next((data / "oci/blobs/sha256").iterdir())
    blob.write_bytes(b"something else" * 200_000)
    record, _ = take(data)
    assert record.damaged == (str(blob.relative_to(data)),)
    moved = restored(repository, tmp_path / "moved")
    assert not (moved / blob.relative_to(data)).exists() and (moved / "secrets.key").exists()


def test_secrets_can_be_left_out(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """The public half of the signing key stays: old signatures can be checked."""
    take(make_data_folder(tmp_path / "data"), secrets=False)
    moved = restored(repository, tmp_path / "moved")
    assert {path.name for path in (moved / "signing").iterdir()} == {"ed25519.pub"}
    assert not (moved / "secrets.key").exists()


def test_a_half_restored_folder_is_completed(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """After a failure the folder keeps its mark, other backups are refused, and the same one completes it."""
    data = make_data_folder(tmp_path / "data")
    old, _ = take(data)
    put_blob(data / "disks/sha256", b"one more disk")
    take(data)
    moved = tmp_path / "moved"
    moved.mkdir()
    with repository() as opened:
        record = find_backup(opened)

        def fail(_: object) -> None:
            raise OSError("no space left on the disk")

        with pytest.raises(OSError, match="no space"):
            restore_backup(opened, record, RestoreTarget(moved), report=fail)
        assert (moved / RESTORING).exists()
        with pytest.raises(BackupError, match=f"half restored from the backup {record.id}"):
            restore_backup(opened, old, RestoreTarget(moved))
        restore_backup(opened, record, RestoreTarget(moved))
    assert kept(moved) == kept(data)


@pytest.mark.parametrize(("make", "message"), [
    (lambda folder: (folder.mkdir(), (folder / "file").write_text("")), "is not empty"),
    (lambda folder: folder.write_text(""), "is not a directory"),
], ids=["a folder with files", "a file"])  # fmt: skip
def test_a_target_in_use_is_refused(
    make: object, message: str, take: Take, repository: OpenRepository, tmp_path: Path
) -> None:
    """Nothing is written there."""
    take(make_data_folder(tmp_path / "data"))
    target = tmp_path / "target"
    make(target)  # type: ignore[operator]
    with pytest.raises(BackupError, match=message):
        restored(repository, target)


def test_a_damaged_backup_is_found_and_not_restored(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """The check names the file that needs the content; a restore fails and leaves the folder marked."""
    data = make_data_folder(tmp_path / "data")
    record, _ = take(data)
    digest = hashlib.sha256((data / "logs/web.log").read_bytes()).hexdigest()
    with repository(new=True) as opened:
        opened.remove(f"blobs/sha256/{digest}")
        faults = check_backup(opened, record)
        assert len(faults) == 1 and faults[0].startswith("log-groups/web.log: ") and digest in faults[0]
        with pytest.raises(BackupError, match=digest):
            restore_backup(opened, record, RestoreTarget(tmp_path / "moved"))
    assert (tmp_path / "moved" / RESTORING).exists()


def test_objects_of_a_shared_store_come_back(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """Blobs that the store still has are kept; without --artifacts the restore is refused, not shortened."""
    data = make_data_folder(tmp_path / "data")
    shared = open_shared_store(str(tmp_path / "shared"), lambda: None)
    blob = next((data / "oci/blobs/sha256").iterdir())
    shared.put_blob(f"sha256:{blob.name}", blob)
    shared.put("names/web:1.0.0-1", b"sha256:...")
    take(data, shared=shared)
    other = open_shared_store(str(tmp_path / "other"), lambda: None)
    with repository() as opened:
        record = find_backup(opened)
        with pytest.raises(BackupError, match="--artifacts"):
            restore_backup(opened, record, RestoreTarget(tmp_path / "refused"))
        restore_backup(opened, record, RestoreTarget(tmp_path / "moved", shared=other))
    assert sorted(other.names()) == sorted(shared.names())
    other.fetch_blob(f"sha256:{blob.name}", tmp_path / "fetched")
    assert other.get("names/web:1.0.0-1") == b"sha256:..."


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "", "x" * 5000, "a\0b"])
def test_a_list_cannot_name_a_file_outside(path: str) -> None:
    """A backup comes from another machine: its list is checked line by line."""
    line = {"kind": "file", "path": path, "digest": f"sha256:{'0' * 64}", "size": 1}
    with pytest.raises(BackupError, match="line 1 of the list of backup is malformed"):
        list(parse_entries([json.dumps(line).encode()], "backup"))


@pytest.mark.parametrize("line", [
    b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"kind": "file"}',
    b'{"kind": "socket", "path": "a", "digest": "sha256:0", "size": 0}',
    b'{"kind": "file", "path": "a", "digest": "sha256:0", "size": 0}',
    json.dumps({"kind": "file", "path": "a", "digest": f"sha256:{'0' * 64}", "size": -1}).encode(),
], ids=range(9))  # fmt: skip
def test_a_malformed_list_is_refused_with_its_line(line: bytes) -> None:
    """Never a traceback."""
    with pytest.raises(BackupError, match="line 1"):
        list(parse_entries([line], "backup"))


def test_a_link_in_place_of_a_folder_is_not_followed(
    take: Take, repository: OpenRepository, tmp_path: Path
) -> None:
    """A restore that goes on in a folder where somebody put a link writes nothing through it."""
    take(make_data_folder(tmp_path / "data"))
    moved, outside = tmp_path / "moved", tmp_path / "outside"
    outside.mkdir()
    moved.mkdir()
    with repository() as opened:
        record = find_backup(opened)
        (moved / RESTORING).write_text(json.dumps({"backup": record.id}))
        (moved / "logs").symlink_to(outside)
        with pytest.raises(BackupError, match="symbolic link"):
            restore_backup(opened, record, RestoreTarget(moved))
    assert list(outside.iterdir()) == []


def test_one_backup_is_written_at_a_time(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """What another has copied has no record yet, and would be removed as content that no backup needs."""
    data = make_data_folder(tmp_path / "data")
    with repository(new=True), pytest.raises(BackupError, match=r"writes another backup|is being written"):
        take(data)
    take(data)


def test_servers_share_a_target(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """Each counts its own backups, and a restore asks which server is meant."""
    one, two = make_data_folder(tmp_path / "one"), make_data_folder(tmp_path / "two")
    ids = {
        name: [take(data, name=name)[0].id for _ in range(2)] for name, data in (("a:/one", one), ("b:/two", two))
    }
    with repository(new=True) as opened:
        assert remove_old(opened, 1, "a:/one") == ids["a:/one"][:1]
        kept = [record.id for record in list_backups(opened)]
        assert kept == [ids["a:/one"][1], *ids["b:/two"]]
        with pytest.raises(
            BackupError, match=r"several servers: choose one with --backup: .* of a:/one; .* of b:/two"
        ):
            find_backup(opened)
        assert find_backup(opened, ids["a:/one"][1]).source == "a:/one"


def test_the_size_of_shared_objects_is_known_from_the_second_backup_on(take: Take, tmp_path: Path) -> None:
    """They are not read again."""
    data = make_data_folder(tmp_path / "data")
    shared = open_shared_store(str(tmp_path / "shared"), lambda: None)
    blob = next((data / "oci/blobs/sha256").iterdir())
    shared.put_blob(f"sha256:{blob.name}", blob)
    first, _ = take(data, shared=shared)
    second, progress = take(data, shared=shared)
    assert second.size == first.size and progress.copied == 0


def test_a_document_of_a_shared_store_names_no_blob_that_is_missing(
    take: Take, repository: OpenRepository, tmp_path: Path
) -> None:
    """What is published while the backup runs is in it with its blobs, or not at all."""
    data = make_data_folder(tmp_path / "data")
    shared = open_shared_store(str(tmp_path / "shared"), lambda: None)
    late = put_blob(tmp_path, b"published meanwhile")

    class Published:
        """A store in which another host publishes an image as soon as its blobs were listed."""

        url = shared.url
        fetch = staticmethod(shared.fetch)

        @staticmethod
        def names(prefix: str = "") -> list[str]:
            found = list(shared.names(prefix))
            shared.put_blob(f"sha256:{late.name}", late)
            shared.put("images/late.json", late.name.encode())
            return found

    take(data, shared=Published())
    with repository() as opened, entries_of(opened, find_backup(opened)) as entries:
        names = [entry.path for entry in entries if entry.kind is BackupEntryKind.SHARED]
    assert "images/late.json" not in names or f"blobs/sha256/{late.name}" in names
    assert names == [f"blobs/sha256/{late.name}"]


def test_work_of_others_is_left_out(take: Take, repository: OpenRepository, tmp_path: Path) -> None:
    """A rebuild has a data directory of its own below, with copies of keys and a database."""
    data = make_data_folder(tmp_path / "data")
    (data / "rebuilds" / "x" / "signing").mkdir(parents=True)
    (data / "rebuilds" / "x" / "signing" / "ed25519.pem").write_text("private")
    take(data, secrets=False)
    assert not (restored(repository, tmp_path / "moved") / "rebuilds").exists()
