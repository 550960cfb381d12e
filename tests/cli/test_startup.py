"""A start loads what the first request needs, and the rest once the process does its work."""

from __future__ import annotations

import subprocess
import sys

import pytest

DOCUMENTS = (
    "imagesmith.components.grammar", "imagesmith.workflow_documents.grammar", "imagesmith.dockerfiles.template"
)  # fmt: skip
BUILDS = ("imagesmith.builds.image_run",)
LATE = (*DOCUMENTS, *BUILDS, "imagesmith.inspection.scanning", "univers", "botocore.session")
BEGUN = """
import gc, threading
from imagesmith.cli import startup
startup.begin()
assert not gc.isenabled()
startup.finish(PARTS)
for thread in threading.enumerate():
    if thread.name == "startup":
        thread.join()
import sys
print(gc.isenabled(), gc.get_freeze_count() > 0, *sys.modules)
"""


ENDED_AT_ONCE = """
from imagesmith.cli import startup
startup.begin()
startup.finish(startup.load_documents, startup.load_builds)
"""


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_a_server_loads_no_module_that_only_a_document_or_a_build_needs() -> None:
    """Its parts are made without grammars, inventories, feeds, version schemes and a session of botocore."""
    loaded = python("import sys, imagesmith.cli.server, imagesmith.wire.server; print(*sys.modules)").split()

    assert [name for name in loaded if name.startswith(LATE)] == []
    assert "imagesmith.builds.worker_context" in loaded


@pytest.mark.parametrize(
    ("parts", "needed"),
    [
        ("startup.load_documents", DOCUMENTS),
        ("startup.load_builds", BUILDS),
        ("startup.load_documents, startup.load_builds", (*DOCUMENTS, *BUILDS)),
        ("", ()),
    ],
)
def test_after_a_start_its_parts_are_there_and_the_collector_runs(parts: str, needed: tuple[str, ...]) -> None:
    """What a start has made is left alone by the collector; a process that builds nothing loads nothing for it."""
    enabled, frozen, *loaded = python(BEGUN.replace("PARTS", parts)).split()
    assert (enabled, frozen) == ("True", "True") and set(needed) <= set(loaded)
    assert ("imagesmith.builds.image_run" in loaded) == ("load_builds" in parts)


def test_a_process_that_ends_during_its_start_ends_in_order() -> None:
    """It is not aborted while a module is loaded."""
    assert python(ENDED_AT_ONCE) == ""
