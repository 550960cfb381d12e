"""A start loads what the first request needs, and the rest once the process does its work."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = ("imagesmith.builds.image_run", "imagesmith.inspection.scanning", "univers", "botocore.session")
BEGUN = """
import gc, threading
from imagesmith.cli import startup
startup.begin()
assert not gc.isenabled()
startup.finish(builds=BUILDS)
for thread in threading.enumerate():
    if thread.name == "startup":
        thread.join()
import sys
print(gc.isenabled(), gc.get_freeze_count() > 0, "imagesmith.builds.image_run" in sys.modules)
"""


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_a_server_loads_no_module_that_only_a_build_needs() -> None:
    """Its parts are made without inventories, feeds, version schemes and a session of botocore."""
    loaded = python("import sys, imagesmith.cli.server, imagesmith.wire.server; print(*sys.modules)").split()

    assert [name for name in loaded if name.startswith(LATE)] == []
    assert "imagesmith.builds.worker_context" in loaded


@pytest.mark.parametrize("builds", [True, False])
def test_after_a_start_modules_of_builds_are_there_and_the_collector_runs(*, builds: bool) -> None:
    """What a start has made is left alone by the collector; a process that builds nothing loads nothing for it."""
    assert python(BEGUN.replace("BUILDS", str(builds))).split() == ["True", "True", str(builds)]
