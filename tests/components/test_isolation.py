"""What a component cannot do from inside a container, and what its output cannot do to the worker."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from testing.component_support import bash, document, document_run, one_step
from testing.containers import import_tiny_image


@pytest.fixture(scope="module")
def container(container_storage: ContainerStorage) -> Iterator[ContainerInstance]:
    instance = ContainerInstance.launch(
        container_storage, import_tiny_image(container_storage), name="isolation", network="none"
    )
    yield instance
    instance.close()


@pytest.mark.tool
@pytest.mark.parametrize(
    ("action", "entry"),
    [
        ("CreateFile", {"path": "../../../../../..{host}/evil", "content": "x"}),
        ("CreateFile", {"path": "/link{host}/evil", "content": "x"}),
        ("CopyFile", {"source": "/etc/passwd", "destination": "/link{host}/evil"}),
        ("DeleteFile", {"path": "/link{host}/precious"}),
        ("DeleteFolder", {"path": "/proc/self/root{host}", "force": True}),
        ("DeleteFolder", {"path": "/proc/1/root{host}", "force": True}),
        ("MoveFolder", {"source": "/link{host}", "destination": "/stolen"}),
        ("ReadFile", {"path": "/link{host}/precious"}),
    ],
)
def test_paths_stay_inside(
    container: ContainerInstance, tmp_path: Path, action: str, entry: dict[str, Any]
) -> None:
    """However a path is written, it means the container's own files."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "precious").write_text("precious")
    container.run(Command(("sh", "-c", "[ -L /link ] || ln -s / /link")))
    aimed = {key: value.format(host=host) if isinstance(value, str) else value for key, value in entry.items()}
    numbers = itertools.count()
    result = run_documents(
        [document_run(one_step(action, [aimed]))], container, clock=SystemClock(), ids=lambda: str(next(numbers))
    )
    assert [path.name for path in host.iterdir()] == ["precious"]
    assert (host / "precious").read_text() == "precious"
    assert "precious" not in str([step.outputs for step in result.steps])


@pytest.mark.tool
def test_timeout_in_a_container_kills_the_tree(container: ContainerInstance) -> None:
    """After a timeout nothing of the step runs on in the container."""
    numbers = itertools.count()
    text = document(bash("sleep 4321 & sleep 4321", extra="timeoutSeconds: 1"))
    result = run_documents([document_run(text)], container, clock=SystemClock(), ids=lambda: str(next(numbers)))
    assert result.status == "timedOut"
    running = container.run(
        Command(("sh", "-c", 'for f in /proc/[0-9]*/cmdline; do tr "\\0" " " <"$f"; echo; done'))
    ).stdout
    assert b"sleep 4321" not in running


def test_output_does_not_grow_memory(tmp_path: Path) -> None:
    """A gibibyte of output, with and without line breaks, costs a few mebibytes."""
    for command in ("yes $(printf %065000d 7) | head -c 1073741824", "head -c 1073741824 /dev/zero >&2"):
        result, grown = quiet_run(document(bash(command)), tmp_path)
        assert result.status == "success"
        assert grown < 30, f"{grown} MiB"


def test_many_iterations_stay_flat(tmp_path: Path) -> None:
    """Iterations that print more than an output may hold leave one bounded output."""
    loop = "loop:\n  for: {start: 1, end: 300, updateBy: 1}"
    result, grown = quiet_run(document(bash("printf %020000d 7", extra=loop)), tmp_path)
    stdout = result.steps[0].outputs[0]["stdout"]
    assert "output shortened" in stdout[-200:] and len(stdout) < 1024 * 1024 + 30000
    assert grown < 30, f"{grown} MiB"


def test_ten_thousand_iterations_stay_flat(tmp_path: Path) -> None:
    """What a run keeps of an iteration that says nothing does not add up."""
    loop = "loop:\n  for: {start: 1, end: 10000, updateBy: 1}"
    text = one_step("Assert", {"numberGreaterThan": "0", "value": "{{ loop.value }}"}, extra=loop)
    assert quiet_run(text.replace("10000", "10"), tmp_path)[0].status == "success"
    result, grown = quiet_run(text, tmp_path)
    assert result.status == "success"
    assert grown < 10, f"{grown} MiB"


def quiet_run(text: str, folder: Path) -> tuple[ExecutionResult, int]:
    """Run a document unheard; also give how many mebibytes the peak of memory rose."""
    numbers = itertools.count()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = run_documents(
        [document_run(text)], HostInstance(folder), clock=SystemClock(), ids=lambda: str(next(numbers))
    )
    return result, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
