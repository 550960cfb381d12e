"""Several pytest processes share the files of one run (a pytest plugin; testing/parallel_run.py starts them).

    --file-queue FOLDER    take the next file that no other process has taken, until none is left

A taken file is a note in the folder; the process that takes it writes there what became of it. Files that take long
(durations.json) come first, so that no process begins one while the others have nothing left. A file that is not
listed counts as a long one for the same reason.

Coverage, where it runs, is measured in some folders of fast tests: the tracer takes half as long again, and the
processes that tests start are not measured.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from coverage import Coverage

DURATIONS = Path(__file__).with_name("durations.json")
TALLY = "tally"
"""The user property whose texts the end of a run prints."""
MEASURED = tuple(
    f"tests/{folder}/" for folder in ("components", "documents", "resources", "store", "wire", "workflow_documents")
)
_UNKNOWN_SECONDS = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--file-queue", type=Path, help="folder of the notes of a shared run")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """As pytest's own loop, over the files that this process takes."""
    folder: Path | None = session.config.getoption("file_queue")
    if folder is None:
        return None
    if session.testsfailed:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    files: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        files.setdefault(file_of(item), []).append(item)
    measuring = Coverage.current()
    if measuring is not None:
        measuring.stop()
    taken = _take(folder, files)
    file = next(taken, None)
    while file is not None:
        measured = measuring if file.startswith(MEASURED) else None
        if measured is not None:
            measured.start()
        file = _run(session, folder / note_of(file), files, files[file], taken)
        if measured is not None:
            measured.stop()
    return True


def _run(
    session: pytest.Session,
    note: Path,
    files: Mapping[str, list[pytest.Item]],
    items: list[pytest.Item],
    taken: Iterator[str],
) -> str | None:
    """Run the tests of a file; returns the next file, which is taken before the last test.

    Its first test decides which fixtures the last one leaves standing.
    """
    began, failed = time.monotonic(), session.testsfailed
    following = None
    for number, item in enumerate(items, 1):
        if number == len(items):
            following = next(taken, None)
            upcoming = files[following][0] if following else None
        else:
            upcoming = items[number]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=upcoming)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    seconds = round(time.monotonic() - began, 1)
    note.write_text(json.dumps({"tests": len(items), "failed": session.testsfailed - failed, "seconds": seconds}))
    return following


def _take(folder: Path, files: Mapping[str, list[pytest.Item]]) -> Iterator[str]:
    """Take one file after the other, the longest first."""
    known: dict[str, float] = json.loads(DURATIONS.read_text())
    for file in sorted(files, key=lambda name: -known.get(name, _UNKNOWN_SECONDS)):
        try:
            (folder / note_of(file)).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield file


def file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def note_of(file: str) -> str:
    """The name of the note of a file; not one of a test, should pytest look into the folder."""
    return f"{file.replace(os.sep, '+')}.note"


def file_of_note(name: str) -> str:
    return name.removesuffix(".note").replace("+", os.sep)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted, also when nobody looks at the output of single tests."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    told = (report.user_properties for report in reports if isinstance(report, pytest.TestReport))
    lines = {str(text) for properties in told for name, text in properties if name == TALLY}
    if lines:
        terminalreporter.section("crashes")
        for line in sorted(lines):
            terminalreporter.write_line(line)
