"""Lines of changes stand in the database with the change, and in the file of their log exactly once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from imagesmith.accounts.audit import AuditRecord, AuditUnavailable
from imagesmith.accounts.audit_outbox import AuditOutbox
from imagesmith.accounts.audit_reader import AuditQuery, audit_lines
from imagesmith.store.audit_lines import AuditLine, lines_of, put_line
from imagesmith.store.database import Database
from testing.clocks import MovingClock
from testing.small_disk import fill, small_disk_at

Open = Callable[..., AuditOutbox]


@pytest.fixture
def opened(tmp_path: Path, database: Database, clock: MovingClock) -> Iterator[Open]:
    """Opens the log of a data directory, as the start of a server does; kill() is what a kill -9 leaves."""
    made: list[AuditOutbox] = []

    def open_log(name: str = "data") -> AuditOutbox:
        made.append(AuditOutbox(tmp_path / name, database, clock))
        return made[-1]

    yield open_log
    for log in made:
        log.close()


def changed(log: AuditOutbox, database: Database, clock: MovingClock, *ids: str) -> list[AuditLine]:
    """The lines of changes that were committed."""
    lines = [
        log.line(AuditRecord(time=clock(), principal="p", source="s", operation="TagResource", request_id=id))
        for id in ids
    ]
    with database.write("test") as tx:
        for line in lines:
            put_line(tx, line)
    return lines


def found(data_dir: Path) -> list[str]:
    return [str(line["requestId"]) for line in audit_lines(data_dir, AuditQuery())]


def waiting(database: Database, log: AuditOutbox) -> list[str]:
    return [line.id for line in database.query(lambda tx: lines_of(tx, log.id))]


def test_a_line_leaves_the_database_once_its_file_has_it(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """It is in the file before the answer, and in the database until the file was flushed and the next change."""
    log = opened()
    log.committed(changed(log, database, clock, "a", "b"))
    assert found(tmp_path / "data") == ["a", "b"]
    assert set(waiting(database, log)) == {"a", "b"}
    log.drain()
    log.committed(changed(log, database, clock, "c"))
    assert waiting(database, log) == ["c"]
    log.drain()
    log.drain()  # no change has come meanwhile
    assert waiting(database, log) == []
    assert found(tmp_path / "data") == ["a", "b", "c"]


def test_rows_that_a_failed_change_did_not_remove_leave_at_the_next_start(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """They are in the file already and not written twice."""
    log = opened()
    log.committed(changed(log, database, clock, "a"))
    log.drain()
    record = AuditRecord(time=clock(), principal="p", source="s", operation="TagResource", request_id="b")
    with pytest.raises(RuntimeError), database.write("test") as tx:
        put_line(tx, log.line(record))
        raise RuntimeError
    assert waiting(database, log) == ["a"]
    assert waiting(database, opened()) == []
    assert found(tmp_path / "data") == ["a"]


@pytest.mark.parametrize("appended", [0, 1, 2])
@pytest.mark.parametrize("over_midnight", [False, True])
def test_what_a_killed_server_left_is_written_once(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path, appended: int, over_midnight: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Whether it was killed before it appended its lines, among them, or after; also when the day changed."""
    clock.now = clock.now.replace(hour=23, minute=59, second=59)
    killed = opened()
    lines = changed(killed, database, clock, "a", "b")
    if over_midnight:
        clock.now += timedelta(seconds=2)
    killed.committed(lines[:appended])
    with caplog.at_level(logging.WARNING):
        log = opened()
    assert sorted(found(tmp_path / "data")) == ["a", "b"]
    assert waiting(database, log) == []
    assert (f"{2 - appended} lines of the audit log were written now" in caplog.text) is (appended < 2)
    opened()
    assert sorted(found(tmp_path / "data")) == ["a", "b"]


def test_a_change_that_is_undone_has_no_line(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """The line goes with the transaction."""
    log = opened()
    record = AuditRecord(time=clock(), principal="p", source="s", operation="TagResource", request_id="a")
    with pytest.raises(RuntimeError), database.write("test") as tx:
        put_line(tx, log.line(record))
        raise RuntimeError
    opened()
    assert found(tmp_path / "data") == []


def test_servers_on_one_database_keep_their_own_lines(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """The start of one writes nothing of the other's, which may be about to."""
    first, second = opened("one"), opened("two")
    changed(first, database, clock, "a")
    changed(second, database, clock, "b")
    opened("two")
    assert (found(tmp_path / "one"), found(tmp_path / "two")) == ([], ["b"])
    opened("one")
    assert found(tmp_path / "one") == ["a"]


@pytest.mark.tool
def test_a_line_that_a_full_disk_refuses_waits_in_the_database(
    database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """It is written as soon as there is room, and the change is not lost to the log."""
    with small_disk_at(tmp_path / "small", megabytes=4) as place:
        log = AuditOutbox(place, database, clock)
        ballast = fill(place)
        lines = changed(log, database, clock, *(f"{number:04d}" for number in range(200)))
        log.committed(lines)
        assert found(place) == []
        ballast.unlink()
        log.drain()
        assert found(place) == [line.id for line in lines]
        log.close()
        assert waiting(database, log) == []


def test_a_torn_line_takes_no_other_with_it(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """A power cut may leave the first part of a line: what is written next begins a line of its own."""
    log = opened()
    log.committed(changed(log, database, clock, "a"))
    left = changed(log, database, clock, "b")
    path = next((tmp_path / "data" / "audit").glob("*.jsonl"))
    with path.open("ab") as file:
        file.write(left[0].line.encode()[:20])
    log.committed(changed(log, database, clock, "c"))
    opened()
    lines = path.read_bytes().split(b"\n")
    assert lines[1] == left[0].line.encode()[:20]
    assert [b'"a"' in lines[0], b'"c"' in lines[2], b'"b"' in lines[3]] == [True, True, True]
    assert waiting(database, log) == []


def test_a_line_that_was_appended_days_later_is_not_written_again(
    opened: Open, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """A disk that was full over a weekend: the next start looks into all files since the day of the line."""
    log = opened()
    lines = changed(log, database, clock, "a")
    clock.advance(days=3)
    log.committed(lines)
    assert waiting(database, opened()) == []
    days = list((tmp_path / "data" / "audit").glob("*.jsonl"))
    assert sum(path.read_bytes().count(b'"a"') for path in days) == 1


def test_a_flush_that_failed_is_not_believed_the_second_time(
    opened: Open, database: Database, clock: MovingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a write that failed once: the row stays in the database until the next start."""
    log = opened()
    log.committed(changed(log, database, clock, "a"))
    with monkeypatch.context() as patched:

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(AuditUnavailable):
            log.drain()
    log.drain()
    log.drain()
    assert waiting(database, log) == ["a"]
    assert waiting(database, opened()) == []
