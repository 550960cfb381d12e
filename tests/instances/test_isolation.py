"""Private mounts of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tool

SCRIPT = """
import subprocess, sys, threading
from imagesmith.instances.isolation import IsolationError, private_mounts
if sys.argv[2] == "thread":
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True).start()
    try:
        private_mounts()
    except IsolationError as error:
        print(error)
    sys.exit()
private_mounts()
subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
print(sys.argv[1] in open("/proc/self/mountinfo").read())
"""


def run(folder: Path, kind: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), kind], check=True, capture_output=True, text=True
    ).stdout


def test_a_mount_of_a_private_process_is_seen_by_nobody_else_and_dies_with_it(tmp_path: Path) -> None:
    """What the process mounts is its own."""
    assert run(tmp_path, "mount") == "True\n"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_it_refuses_once_there_are_threads(tmp_path: Path) -> None:
    """A thread that exists already would keep the machine's mounts: refused, not half done."""
    assert "before the process starts threads" in run(tmp_path, "thread")
