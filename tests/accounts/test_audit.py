"""The audit log: whole lines of several processes, durable, one file a day, and room before a change."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imagesmith.accounts.audit import AuditLog, AuditRecord, AuditUnavailable
from imagesmith.accounts.audit_reader import AuditQuery, audit_lines
from testing.clocks import MovingClock
from testing.small_disk import fill, small_disk_at

DAY = datetime(2026, 11, 29, 23, 0, tzinfo=UTC)


def record(**members: Any) -> AuditRecord:
    values = {"time": DAY, "principal": "arn:aws:iam::1:root", "source": "10.0.0.1", "operation": "DeleteImage"}
    return AuditRecord(**{**values, **members})


def lines(data_dir: Path, **query: Any) -> list[Mapping[str, Any]]:
    return list(audit_lines(data_dir, AuditQuery(**query)))


def test_a_line_is_private_and_durable_when_record_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is 0600 in a folder of 0700, and the line is flushed after it was written."""
    flushed: list[int] = []
    fdatasync = os.fdatasync

    def spy(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_size)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", spy)
    log = AuditLog(tmp_path, lambda: DAY)
    log.record(record())
    path = tmp_path / "audit" / "2026-11-29.jsonl"
    assert flushed == [path.stat().st_size] and flushed[0] > 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    log.close()
    [found] = lines(tmp_path)
    assert found["operation"] == "DeleteImage" and found["time"] == "2026-11-29T23:00:00.000Z"


def test_a_day_has_a_file_of_its_own(tmp_path: Path, clock: MovingClock) -> None:
    """Days are those of UTC, and the reader looks at all of them in order."""
    clock.now = DAY
    log = AuditLog(tmp_path, clock)
    for number in range(3):
        log.record(record(time=clock(), request_id=str(number)))
        clock.now += timedelta(hours=20)
    log.close()
    names = ["2026-11-29.jsonl", "2026-11-30.jsonl", "2026-12-01.jsonl"]
    assert sorted(place.name for place in (tmp_path / "audit").iterdir()) == names
    assert [found["requestId"] for found in lines(tmp_path)] == ["0", "1", "2"]
    assert [found["requestId"] for found in lines(tmp_path, since=DAY + timedelta(hours=1))] == ["1", "2"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 3),
        ({"account": "123456789012"}, 1),
        ({"operation": "delete*"}, 2),
        ({"operation": "CreateImage"}, 1),
        ({"result": "AccessDeniedException"}, 1),
        ({"since": DAY}, 3),
        ({"since": DAY + timedelta(minutes=1)}, 1),
        ({"operation": "Delete*", "result": "OK"}, 1),
    ],
)
def test_lines_are_found_by_what_they_say(tmp_path: Path, query: dict[str, Any], found: int) -> None:
    """Account, operation with wildcards, result and time, which all must hold."""
    log = AuditLog(tmp_path, lambda: DAY)
    log.record(
        record(account="123456789012"), record(result="AccessDeniedException"),
        record(operation="CreateImage", time=DAY + timedelta(hours=1)),
    )  # fmt: skip
    log.close()
    assert len(lines(tmp_path, **query)) == found


def test_lines_hold_what_clients_send_in_one_line_each(tmp_path: Path) -> None:
    """Line breaks, control characters and long texts of a client neither end a line nor fill the disk."""
    log = AuditLog(tmp_path, lambda: DAY)
    log.record(record(agent="a\nb\x1b[2J\u2028" + "x" * 100_000, resource="\n{}"))
    log.close()
    content = (tmp_path / "audit" / "2026-11-29.jsonl").read_bytes()
    assert content.count(b"\n") == 1 and content.isascii() and len(content) < 2000
    assert lines(tmp_path)[0]["agent"].startswith("a\nb\x1b")


def test_processes_append_whole_lines(tmp_path: Path) -> None:
    """A server and several commands write at the same time, and every line can be read."""
    program = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from imagesmith.accounts.audit import AuditLog, AuditRecord\n"
        f"log = AuditLog(Path({str(tmp_path)!r}), lambda: datetime(2026, 11, 29, tzinfo=UTC), keeps_room=False)\n"
        "sys.stdin.readline()\n"
        "for number in range(50):\n"
        "    log.reserve()\n"
        "    log.record(AuditRecord(time=datetime.now(UTC), principal='p' * 400, source='s', agent='\\n' * 300,\n"
        "                           operation=sys.argv[1], request_id=str(number)))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, name], stdin=subprocess.PIPE, text=True) for name in "abcd"
    ]
    for process in started:
        process.communicate("go\n")
    assert all(process.returncode == 0 for process in started)
    found = lines(tmp_path)
    assert not [line for line in found if "damaged" in line]
    for name in "abcd":
        assert [line["requestId"] for line in found if line["operation"] == name] == [str(n) for n in range(50)]


def test_a_line_that_is_no_record_is_reported_with_its_place(tmp_path: Path) -> None:
    """The others are still read: a machine that lost power may leave half a line."""
    log = AuditLog(tmp_path, lambda: DAY)
    log.record(record())
    with (tmp_path / "audit" / "2026-11-29.jsonl").open("a") as file:
        file.write('{"half": \n')
    log.record(record())
    log.close()
    found = lines(tmp_path)
    assert [line.get("damaged", "") for line in found] == ["", f"{tmp_path}/audit/2026-11-29.jsonl:2", ""]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", megabytes=8) as place:
        yield place


@pytest.mark.tool
def test_without_room_nothing_is_promised_and_no_half_line_stays(small: Path) -> None:
    """A full disk is noticed before a change; lines in the reserved room are written although it is full."""
    log = AuditLog(small, lambda: DAY)
    log.reserve()
    fill(small)
    for number in range(100):
        log.record(record(request_id=str(number)))
    other = AuditLog(small, lambda: DAY + timedelta(days=1), keeps_room=False)
    with pytest.raises(AuditUnavailable, match="No space left"):
        other.reserve()
    log.close()
    found = lines(small)
    assert len([line for line in found if line.get("requestId")]) == 100
    assert not [line for line in found if "damaged" in line]
    assert json.dumps(found)
