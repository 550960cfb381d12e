"""Copies of the databases: consistent, private, restored completely or not at all."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from imagesmith.backups import databases
from imagesmith.backups.before_upgrade import FOLDER, copy_before_upgrade
from imagesmith.backups.listing import find_backup
from imagesmith.backups.manifest import BackupEntry, BackupError
from imagesmith.backups.restoring import RestoreTarget, restore_backup
from imagesmith.store import migrate
from imagesmith.store.database import Database, make_engine
from testing.data_folder import OpenRepository, Take, add_record, has_record, make_data_folder
from testing.postgresql import new_postgresql_database

NOW = datetime(2026, 11, 29, tzinfo=UTC)
JOURNAL = (
    f"CREATE SCHEMA {databases.JOURNAL_SCHEMA}; CREATE TABLE {databases.JOURNAL_SCHEMA}.runs AS SELECT 7 AS run"
)


def execute(url: str, statement: str) -> None:
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def scalar(url: str, question: str) -> object:
    engine = make_engine(url)
    with engine.connect() as connection:
        found: object = connection.scalar(sa.text(question))
    engine.dispose()
    return found


def test_a_copy_is_of_one_moment_while_others_write(tmp_path: Path) -> None:
    """Pairs of rows that one transaction writes are both in the copy, or neither."""
    file = tmp_path / "imagesmith.sqlite"
    url = f"sqlite:///{file}"
    execute(url, "CREATE TABLE pairs (number INTEGER)")
    database = Database(url)
    enough, stop = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with database.write() as connection:
                for _ in range(2):
                    connection.execute(sa.text("INSERT INTO pairs VALUES (:number)"), {"number": number})
            if number == 20:
                enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert enough.wait(60)
        for attempt in range(5):
            copy = tmp_path / f"copy-{attempt}"
            databases.copy_sqlite(file, copy)
            question = "SELECT count(*) FROM (SELECT number FROM pairs GROUP BY number HAVING count(*) <> 2)"
            assert scalar(f"sqlite:///{copy}", question) == 0
            assert int(str(scalar(f"sqlite:///{copy}", "SELECT count(*) FROM pairs"))) >= 40
    finally:
        stop.set()
        writer.join()
        database.close()


def test_a_damaged_database_is_not_copied(tmp_path: Path) -> None:
    """A backup of it would replace an older one that is whole."""
    data = make_data_folder(tmp_path / "data")
    file = data / "imagesmith.sqlite"
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 8] = b"\\xff" * (4096 * 5)
    file.write_bytes(content)
    with pytest.raises(BackupError, match=str(file)):
        databases.copy_sqlite(file, tmp_path / "copy")


def test_postgresql_is_restored_into_an_empty_database(
    take: Take, repository: OpenRepository, postgresql: str, tmp_path: Path
) -> None:
    """Records and journal come back; a database in use is refused, and so is none at all."""
    url = new_postgresql_database(postgresql)
    data = make_data_folder(tmp_path / "data", database_url=url)
    execute(url, JOURNAL)
    record, _ = take(data, database_url=url)
    add_record(url, "later")
    assert record.database == "postgresql"
    other = new_postgresql_database(postgresql)
    moved = tmp_path / "moved"
    with repository() as opened:
        for wrong, message in ((url, "is not empty"), ("", "--database-url")):
            with pytest.raises(BackupError, match=message):
                restore_backup(opened, find_backup(opened), RestoreTarget(moved, database_url=wrong))
        assert not moved.exists()

        def fail(entry: BackupEntry) -> None:
            if entry.path.startswith("oci/"):
                raise OSError("no space left on the disk")

        with pytest.raises(OSError, match="no space"):
            restore_backup(opened, find_backup(opened), RestoreTarget(moved, database_url=other), report=fail)
        # the database is filled already: the same command completes the files
        restore_backup(opened, find_backup(opened), RestoreTarget(moved, database_url=other))
    assert has_record(other, "kept") and not has_record(other, "later")
    assert scalar(other, f"SELECT run FROM {databases.JOURNAL_SCHEMA}.runs") == 7
    assert not (moved / "postgresql.dump").exists()


def test_a_password_of_postgresql_is_in_no_argument_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other users of the machine can read argument lists; the error does not show it either."""
    with pytest.raises(BackupError) as caught:
        databases.dump_postgresql("postgresql+psycopg://u:hidden@127.0.0.1:1/none", tmp_path / "dump")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_copy_is_made_before_a_migration(kind: str, postgresql: str, tmp_path: Path) -> None:
    """It holds the old schema; a new database and the newest schema need none; three copies are kept."""
    url = new_postgresql_database(postgresql) if kind == "postgresql" else ""
    data = make_data_folder(tmp_path / "data", database_url=url)
    file = f"sqlite:///{data / 'imagesmith.sqlite'}"
    database = Database(url or file)
    assert migrate.outdated(database) == ""
    with database.write("schema") as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '0030'"))
    if migrate.outdated(database):  # 0030 may be the newest
        assert migrate.outdated(database) == "0030"
    database.close()
    for minute in range(4):
        copy = copy_before_upgrade(data, url, "0030", now=NOW + timedelta(minutes=minute))
    assert len(list((data / FOLDER).iterdir())) == 3
    names = {path.name for path in copy.iterdir()}
    assert names == ({"postgresql.dump"} if url else {"engine.sqlite", "imagesmith.sqlite"})
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in copy.iterdir())
    if not url:
        assert has_record(f"sqlite:///{copy / 'imagesmith.sqlite'}", "kept")
