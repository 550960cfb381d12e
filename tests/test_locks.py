"""Locks between processes and threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from imagesmith.locks import LockHeld, exclusive_lock, file_lock, is_locked
from imagesmith.processes import Cancellation, Cancelled


def test_only_one_thread_is_inside(tmp_path: Path) -> None:
    """Threads of one process exclude each other too."""
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with file_lock(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    """Nobody waits for a process that was killed."""
    script = "import sys,time; from pathlib import Path; from imagesmith.locks import file_lock\n"
    script += "with file_lock(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)\n"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert is_locked(tmp_path / "lock")
        process.kill()
        process.wait()
    assert not is_locked(tmp_path / "lock")
    with file_lock(tmp_path / "lock"):
        pass


def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled build does not stand in the queue for a lock."""
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.cancel).start()
    with (
        file_lock(tmp_path / "lock"),
        pytest.raises(Cancelled),
        file_lock(tmp_path / "lock", cancellation=cancellation),
    ):
        pass


def test_an_exclusive_lock_is_refused_at_once_and_names_its_holder(tmp_path: Path) -> None:
    """The second one learns who is there."""
    with (
        exclusive_lock(tmp_path / "lock"),
        pytest.raises(LockHeld, match=r"held by process [0-9]+"),
        exclusive_lock(tmp_path / "lock"),
    ):
        pass
    with exclusive_lock(tmp_path / "lock"):
        pass


def test_a_file_that_is_not_there_is_not_locked(tmp_path: Path) -> None:
    """Asking makes no file."""
    assert not is_locked(tmp_path / "none") and not (tmp_path / "none").exists()
