"""The process runner: output, limits, timeouts, cancellation, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from imagesmith import processes
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


def gone(pid: int, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_output_and_status_are_kept() -> None:
    """Both streams, the status, and a command line one can paste."""
    done = processes.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    assert done.command == "sh -c 'echo out; echo err >&2; exit 3'"


def test_input_of_any_size_is_fed_while_output_is_read() -> None:
    """A pipe that fills up on one side does not block the other."""
    data = os.urandom(3_000_000)
    seen: list[bytes] = []
    done = processes.run(["cat"], input=data, on_output=lambda _stream, chunk: seen.append(chunk))
    assert b"".join(seen) == data and done.dropped == len(data) - len(done.stdout)


def test_only_the_end_of_long_output_is_kept() -> None:
    """Memory does not grow with the output; what was left out is counted."""
    done = processes.run(["sh", "-c", "head -c 50000000 /dev/zero; echo end"], limit=1000)
    assert len(done.stdout) == 1000 and done.stdout.endswith(b"end\n")
    assert done.dropped == 50_000_004 - 1000


def test_a_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    """Children of the program die with it."""
    done = processes.run(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], timeout=0.5)
    assert done.timed_out and done.seconds < 5
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_cancellation_ends_a_running_program() -> None:
    """From another thread, within the polling time."""
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.cancel).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        processes.run(["sleep", "60"], cancellation=cancellation)
    assert time.monotonic() - started < 5
    with pytest.raises(Cancelled):
        processes.run(["true"], cancellation=cancellation)


def test_a_daemon_that_keeps_the_pipes_open_does_not_hold_up_the_caller() -> None:
    """The end is the end of the program, not of its pipes."""
    started = time.monotonic()
    done = processes.run(["sh", "-c", "setsid sleep 8 & echo started"])
    assert done.stdout == b"started\n" and time.monotonic() - started < 6


def test_a_failure_says_what_ran_and_its_last_words() -> None:
    """check() raises with command, status and output."""
    with pytest.raises(ProcessFailed) as error:
        processes.check(["sh", "-c", "echo broken >&2; exit 4"], what="the try")
    assert str(error.value) == "the try failed (exit status 4): sh -c 'echo broken >&2; exit 4'\nbroken"


def test_the_environment_is_short() -> None:
    """Nothing of this process's environment reaches a tool but what is listed."""
    os.environ["IMAGESMITH_TEST_SECRET"] = "secret"
    try:
        done = processes.run(["env"])
    finally:
        del os.environ["IMAGESMITH_TEST_SECRET"]
    names = {line.split("=")[0] for line in done.stdout.decode().splitlines()}
    assert names <= {*processes.BASE_ENVIRONMENT, "PATH"}


CHILD = """
import sys, threading
from imagesmith import processes
threading.Thread(target=lambda: processes.run(sys.argv[1:], tree=False), daemon=False).start()
"""


def test_programs_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Also on kill -9, where nobody can clean up."""
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    parent = subprocess.Popen([sys.executable, "-c", CHILD, "sh", "-c", script])
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < until
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(pid)


def test_a_tree_takes_everything_with_it() -> None:
    """In namespaces of its own, even a program that left the group dies, and what it mounted is gone."""
    seconds = f"{60 + os.getpid() / 1e7:.7f}"
    done = processes.run(
        ["sh", "-c", f"mount -t tmpfs none /mnt && {{ setsid sleep {seconds} & }}; sleep 0.3"], tree=True
    )
    assert done.returncode == 0
    found = subprocess.run(["pgrep", "-f", f"^sleep {seconds}$"], capture_output=True, check=False)
    assert found.stdout == b""
    assert "tmpfs /mnt" not in Path("/proc/self/mounts").read_text()


def test_a_daemon_that_never_stops_writing_does_not_hold_the_call() -> None:
    """The end is that of the program, however fast what it left behind goes on to write."""
    done = processes.run(["sh", "-c", "yes & yes >&2 & sleep 0.3"], timeout=60)
    assert (done.returncode, done.timed_out) == (0, False) and done.dropped > 0


def test_the_end_of_a_program_is_seen_and_its_id_given_back() -> None:
    """One that runs on is not waited for longer than asked; one that has been reaped counts as ended."""
    program = processes.start(["cat"], stdin=subprocess.PIPE)
    assert not processes.wait_ended(program, 0.0)
    assert program.stdin is not None
    program.stdin.close()
    assert processes.wait_ended(program, 30.0) and program.returncode == 0
    assert processes.wait_ended(program, 0.0) and not alive(program.pid)
