"""Build logs: whole lines, bounded, followed while they grow."""

from __future__ import annotations

from pathlib import Path

from imagesmith.build_logs.logs import BuildLog, follow, log_path
from testing.clocks import MovingClock

ARN = "arn:aws:imagebuilder:eu-west-1:123456789012:image/web/1.0.0/3"


def test_the_path_follows_from_the_arn(tmp_path: Path) -> None:
    """Account, region, image, version and build."""
    assert log_path(tmp_path, ARN) == tmp_path / "123456789012/eu-west-1/web/1.0.0/3.log"


def test_output_becomes_whole_lines_however_it_arrives(tmp_path: Path, clock: MovingClock) -> None:
    """Chunks are put together, redrawn lines show their last drawing, binary does not break anything."""
    log = BuildLog(tmp_path / "a.log", clock)
    receive, flush = log.sink("build")
    for chunk in (b"one\ntw", b"o\n10%\r100%\r\n", b"\xff\xfe\n", b"last"):
        receive("stdout", chunk)
    flush()
    log.close()
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert [line.split(" | ", 1)[1] for line in lines] == ["one", "two", "100%", "\ufffd\ufffd", "last"]
    assert lines[0].startswith("2026-11-23T12:00:00.")


def test_a_line_without_end_is_cut(tmp_path: Path, clock: MovingClock) -> None:
    """Memory stays bounded however long a line is."""
    log = BuildLog(tmp_path / "a.log", clock)
    receive, flush = log.sink("build")
    for _ in range(100):
        receive("stdout", b"x" * 10_000)
    flush()
    log.close()
    assert (tmp_path / "a.log").read_text().count("x") == 1_000_000


def test_following_gives_lines_as_they_come_and_ends_with_the_build(tmp_path: Path, clock: MovingClock) -> None:
    """Also a log that does not exist yet; nothing is lost at the end."""
    path = tmp_path / "deep" / "a.log"
    log: list[BuildLog] = []
    rounds = iter(range(3))

    def wait() -> None:
        number = next(rounds)
        if not log:
            log.append(BuildLog(path, clock))
        log[0].line("build", f"line {number}")

    seen = list(follow(path, lambda: bool(log) and path.read_text().count("\n") == 3, wait))
    assert [line.split(" | ")[1] for line in seen] == ["line 0", "line 1", "line 2"]
    log[0].close()
