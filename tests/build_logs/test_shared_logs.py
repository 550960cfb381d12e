"""Logs of builds that ran on several hosts, put together from a shared store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imagesmith.artifacts.shared_kinds import FolderStore
from imagesmith.build_logs.logs import log_path, step_log_path
from imagesmith.build_logs.shared_logs import LogSender, follow_shared

ARN = "arn:aws:imagebuilder:us-east-1:000000000000:image/web/1.0.0/1"


def line(second: int, text: str) -> str:
    return f"2026-11-23T12:00:{second:02}.000Z build | {text}"


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"{text}\n" for text in lines)


def test_lines_of_several_workers_come_in_order(tmp_path: Path) -> None:
    """Each worker's lines once, by their instants, as they come; what is not a whole line yet waits."""
    store = FolderStore(tmp_path / "shared")
    senders = {name: LogSender(store, tmp_path / name, name) for name in ("one", "two")}
    for sender in senders.values():
        sender.begin(ARN)
    write(log_path(tmp_path / "one", ARN), line(1, "a"), line(4, "d"))
    write(log_path(tmp_path / "two", ARN), line(2, "b"), line(3, "c"))
    for sender in senders.values():
        sender.send(ARN)
    rounds: Iterator[bool] = iter([False, True])

    def later() -> None:
        with log_path(tmp_path / "two", ARN).open("a") as file:
            file.write(f"{line(5, 'e')}\n2026-11-23T12:00:06.000Z build | not wh")
        senders["two"].end(ARN)

    found = list(follow_shared(store, ARN, lambda: ["one", "two", "never"], lambda: next(rounds), later))
    assert found == [line(second, text) for second, text in enumerate("abcde", 1)]
    for sender in senders.values():
        sender.close()


def test_a_step_has_lines_of_its_own(tmp_path: Path) -> None:
    """The log of a step is found by its run and name."""
    store = FolderStore(tmp_path / "shared")
    sender = LogSender(store, tmp_path / "one", "one")
    sender.begin(ARN)
    write(log_path(tmp_path / "one", ARN), line(1, "all"))
    write(step_log_path(tmp_path / "one", ARN, "wf-1", "Work"), line(2, "work"))
    sender.end(ARN)
    sender.close()
    found = follow_shared(store, ARN, lambda: ["one"], lambda: True, lambda: None, step="wf-1/Work")
    assert list(found) == [line(2, "work")]


def test_a_log_that_did_not_grow_is_not_put_again(tmp_path: Path) -> None:
    """The copy is replaced only when there is more to say."""
    store = FolderStore(tmp_path / "shared")
    sender = LogSender(store, tmp_path / "one", "one")
    sender.begin(ARN)
    write(log_path(tmp_path / "one", ARN), line(1, "a"))
    sender.send(ARN)
    [copy] = (tmp_path / "shared" / "logs").rglob("*.log")
    before = copy.stat().st_ino
    sender.send(ARN)
    assert copy.stat().st_ino == before
    write(log_path(tmp_path / "one", ARN), line(2, "b"))
    sender.close()
    sender.end(ARN)
    assert copy.read_text().splitlines() == [line(1, "a"), line(2, "b")]
