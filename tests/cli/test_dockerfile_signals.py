"""`dockerfile build` and `component run` when a signal ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from testing.containers import exported, import_tiny_image
from testing.dockerfile_support import DockerfileBench
from testing.leaks import wait_until_gone

pytestmark = pytest.mark.tool

COMMAND = "from imagesmith.cli.main import main; main()"
BEGIN_SECONDS = 100
END_SECONDS = 60


@pytest.mark.parametrize(("ending", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_build_and_leaves_nothing(tmp_path: Path, ending: str, status: int) -> None:
    """As Ctrl-C does: no process, mount, container or folder; the exit status names the signal."""
    data = tmp_path / "data"
    storage = ContainerStorage.for_data_dir(data / "authoring")
    parent = exported(storage, import_tiny_image(storage), tmp_path / "tiny")
    marker = f"5{os.getpid()}{status}"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {{{{{{ imagebuilder:parentImage }}}}}}\nRUN echo begun; sleep {marker}\n"
    )
    argv = ["dockerfile", "build", str(tmp_path / "Dockerfile"), "--parent", parent]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *argv, "--data-dir", str(data)], stdout=out, stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        await_line(tmp_path / "out", "begun")
        process.send_signal(getattr(signal, ending))
        assert process.wait(END_SECONDS) == status
    finally:
        process.kill()
        process.wait()
    assert wait_until_gone(f"sleep {marker}") == []
    assert DockerfileBench(storage, "").left() == []
    storage.close()


def await_line(output: Path, line: str) -> None:
    deadline = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < deadline:
        if line in output.read_text(errors="replace").splitlines():
            return
        time.sleep(0.05)
    raise AssertionError(f"{line!r} did not appear:\n{output.read_text(errors='replace')}")
