"""Commands that the fork server starts say and end as the installed program, and share nothing but its modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing.commands import COMMAND, Forked, order, run, start
from testing.pipeline_support import document, eventually

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("--help",),
        ("no-such-command",),
        ("component", "validate", "good.yml"),
        ("component", "validate", "bad.yml"),
        ("component", "validate", "missing.yml"),
        ("image", "list", "--data-dir", "nowhere"),
        ("serve", "--port", "0", "--data-dir", "file"),
    ],
)
def test_a_fork_says_and_ends_as_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Both streams and the status, with the folder and the environment of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "good.yml").write_text(document("good", {"build": "true"}))
    (tmp_path / "bad.yml").write_text("name: [\n")
    (tmp_path / "file").write_text("")
    program = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)
    fork = run(*words)
    assert (fork.returncode, fork.stdout, fork.stderr) == (program.returncode, program.stdout, program.stderr)


@contextmanager
def reading(folder: Path) -> Iterator[tuple[Forked, int]]:
    """A command that reads a document from its standard input, and the other end of that."""
    source, sink = os.pipe()
    with (folder / "out").open("w") as out:
        forked = start(
            order("component", "validate", "/dev/stdin", new_session=True), [source, *[out.fileno()] * 2]
        )
    os.close(source)
    try:
        yield forked, sink
    finally:
        os.close(sink)


def test_a_fork_has_its_own_files_folder_umask_session_and_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the fork server is open in it, and it does not ignore what the fork server ignores."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        with reading(tmp_path) as (forked, sink):
            place = Path(f"/proc/{forked.pid}")

            def files() -> dict[str, str]:
                return {link.name: str(link.readlink()) for link in (place / "fd").iterdir()}

            # the document that it reads is open as another file
            opened = eventually(lambda: found if len(found := files()) == 4 else {}, "it reads its input")
            assert opened.pop("1") == opened.pop("2") == str(tmp_path / "out")
            assert len(set(opened.values())) == 1
            status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
            assert (place / "cwd").readlink() == tmp_path
            assert (status["Umask"], status["Name"]) == ("0027", "imagesmith")
            assert os.getsid(forked.pid) == forked.pid
            ignored = int(status["SigIgn"], 16)
            assert [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD")
                    if ignored >> (signal.Signals[name] - 1) & 1] == []  # fmt: skip
            os.write(sink, document("good", {"build": "true"}).encode())
        assert forked.wait(60) == 0
    finally:
        os.umask(before)


def test_a_fork_that_a_signal_ends_is_told(tmp_path: Path) -> None:
    """Its status is that of subprocess: negative."""
    with reading(tmp_path) as (forked, _):
        os.kill(forked.pid, signal.SIGKILL)
        assert forked.wait(60) == -signal.SIGKILL


def test_a_fork_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """It is gone when the error is raised."""
    with reading(tmp_path) as (forked, _):
        with pytest.raises(TimeoutError, match="did not end within"):
            forked.wait(0.01)
        with pytest.raises(ProcessLookupError):
            os.kill(forked.pid, 0)


def test_nothing_outlives_the_tests(tmp_path: Path) -> None:
    """The test process dies: its fork server, a nursery and its server end, because nobody asks them any more."""
    script = (
        "import os, sys; from pathlib import Path; from testing.commands import Nursery, order\n"
        "folder = Path(sys.argv[1]); nursery = Nursery()\n"
        "words = ('serve', '--port', '0', '--data-dir', str(folder / 'data'))\n"
        "server = nursery.start(order(*words), folder / 'err')\n"
        "print(server, nursery.pid, Path(f'/proc/{nursery.pid}/stat').read_text().rpartition(')')[2].split()[1])\n"
        "sys.stdout.flush(); os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "data").mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = done.stdout.split()
    assert len(pids) == 3

    def gone() -> bool:
        states = [Path(f"/proc/{pid}/stat") for pid in pids]
        return all(not state.exists() or ") Z " in state.read_text() for state in states)

    eventually(gone, "the fork server, the nursery and the server end")
