"""The words that start a program in namespaces of other processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagesmith.namespaces.entering import entering

pytestmark = pytest.mark.tool


def test_a_program_is_in_the_namespaces_that_are_named() -> None:
    """The network is that of the other process, and everything else is as before."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdin.write(b"ready\n")
        other.stdin.flush()
        other.stdout.readline()
        program = "import os; print(os.readlink('/proc/self/ns/net'), os.readlink('/proc/self/ns/mnt'))"
        argv = [*entering(net=f"/proc/{other.pid}/ns/net"), sys.executable, "-c", program]
        inside = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
        assert inside == [
            str(Path(f"/proc/{other.pid}/ns/net").readlink()),
            str(Path("/proc/self/ns/mnt").readlink()),
        ]
        assert inside[0] != str(Path("/proc/self/ns/net").readlink())
        other.stdin.close()
