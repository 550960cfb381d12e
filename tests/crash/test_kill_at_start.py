"""kill -9 at the moment in which a sandbox or a tool starts: nothing outlives it (containers/bubblewrap#633)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imagesmith.instances.orphans import end_orphans, tool_environment
from testing.containers import make_tiny_root
from testing.crash_support import Tally
from testing.kills_at_start import STARTS

pytestmark = pytest.mark.tool

KILLS = 50
"""Of each kind; before the guard some 10 in a hundred left something."""


@pytest.mark.parametrize("what", STARTS)
def test_kills_at_the_moment_of_a_start_leave_no_process(what: str, tmp_path: Path, tally: Tally) -> None:
    """Sandboxes with and without network, tools, and tools with namespaces of their own: all end."""
    make_tiny_root(tmp_path / "root")
    argv = [sys.executable, "-m", "testing.kills_at_start", what, str(KILLS), str(tmp_path)]
    done = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["survivors"] == []
    tally(KILLS, f"killed while a {what} started")


def test_the_next_start_ends_what_a_dead_server_left() -> None:
    """Even stopped, with no name or file of the data directory in it; what belongs to a living one stays."""
    script = (
        "import subprocess; from imagesmith.instances.orphans import tool_environment as mark;"
        "null = subprocess.DEVNULL;"
        "print(subprocess.Popen(['sleep', '600'], env=dict(mark()), stdout=null, stderr=null).pid)"
    )
    orphan = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    ours = subprocess.Popen(["sleep", "600"], env=dict(tool_environment()))
    try:
        os.kill(orphan, signal.SIGSTOP)
        ended = end_orphans()
        assert orphan in ended and ours.pid not in ended
        assert ours.poll() is None
    finally:
        ours.kill()
        ours.wait()
