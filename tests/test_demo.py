"""What a new user sees first: the demo builds, updates, scans, pushes, compares, verifies, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testing.pipeline_support import find_processes

DEMO = Path(__file__).parents[1] / "demo" / "run.py"


@pytest.mark.tool
@pytest.mark.timeout(600)
def test_the_demo_does_what_the_readme_shows(tmp_path: Path) -> None:
    """Two builds of a real pipeline; the newer one has findings, one more package, and cosign verifies it."""
    done = subprocess.run(
        [sys.executable, str(DEMO)], capture_output=True, text=True, check=False, timeout=580,
        env={**os.environ, "IMAGESMITH_DEMO_DIR": str(tmp_path / "demo"), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for image in ("demo-web/1.0.0/1", "demo-web/1.0.1/1"):
        assert image in done.stdout
    for words in ("sha256:", "added", "jq", "CVE-", "provenance", "checks were performed", "done in"):
        assert words in done.stdout
    assert find_processes(lambda words: any(str(tmp_path) in word for word in words)) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
