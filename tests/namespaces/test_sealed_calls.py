"""Sealed calls: a process that untrusted bytes have taken over reaches nothing, and ends."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.instances.limits import ResourceLimits, make_groups
from imagesmith.namespaces.maker import NamespaceError
from imagesmith.namespaces.mount_trees import NO_DEVICES, READ_ONLY, clone_tree
from imagesmith.namespaces.sealed_answers import SealedCallFailed
from imagesmith.namespaces.sealed_calls import SealedProgram
from imagesmith.namespaces.user_namespace import UserNamespace
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.streams import wait_readable

pytestmark = pytest.mark.tool
PROBES = "testing.sealed_probes"
TESTS = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def program() -> Iterator[SealedProgram]:
    """A program whose calls are hostile, in use."""
    made = SealedProgram(PROBES, folders=(TESTS, *sys.path))
    with made.used():
        yield made


@pytest.fixture
def namespace(program: SealedProgram) -> Iterator[UserNamespace]:
    with program.namespace() as made:
        yield made


def test_a_call_sees_nothing_of_the_machine(program: SealedProgram, namespace: UserNamespace) -> None:
    """No file, no process, no network, no descriptor of another, no variable, and five rights over files."""
    found = program.call(PROBES, {"probe": "surroundings"}, namespace, [], seconds=60)
    mask = f"{1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 31:016x}"
    assert found["root"] == ["proc", "tmp"] and found["processes"] == ["1"] and found["interfaces"] == ["lo"]
    # three streams, the file for the answer, the socket, the pipe of the parent
    assert found["descriptors"] == 6
    assert found["rights"] == {
        "CapPrm": mask, "CapEff": mask, "CapBnd": mask, "CapInh": "0" * 16, "NoNewPrivs": "1",
    }  # fmt: skip
    assert set(found["environment"]) <= {"PATH", "LANG", "LC_CTYPE"}


def test_every_way_out_is_closed(program: SealedProgram, namespace: UserNamespace, tmp_path: Path) -> None:
    """What the call was given to read cannot be written, and nobody does for it what it may not."""
    own, below = tmp_path / "own", tmp_path / "below"
    for folder, name in ((own, "own"), (below, "lower")):
        folder.mkdir()
        (folder / name).write_text("")
    trees = [
        clone_tree(own, NO_DEVICES, namespace=namespace.files),
        clone_tree(below, NO_DEVICES | READ_ONLY, namespace=namespace.files),
    ]
    try:
        found = program.call(PROBES, {"probe": "attempts"}, namespace, trees, seconds=60)
    finally:
        for tree in trees:
            os.close(tree)
    assert "done" not in found.values(), found
    assert found["writing below"] == found["changing below"] == os.strerror(errno.EROFS)
    assert found["a larger answer"] == os.strerror(errno.EPERM)
    assert found["many processes"] == os.strerror(errno.EAGAIN)
    assert found["an id of another build"] == os.strerror(errno.EINVAL)
    assert found["a file of the machine"] == found["the parent of a folder"] == os.strerror(errno.ENOENT)
    assert len(list(tmp_path.rglob("*"))) == 4


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ("leave", "was killed"),
        ("greedy", "bytes of memory"),
        ("nonsense", "answered something else"),
        ("odd_failure", "answered something else"),
        ("long_failure", "answered something else"),
        ("asks_only", "asks without reading"),
        ("large_answer", f"more than {8 * 1024**2} bytes"),
        ("unknown", "KeyError"),
    ],
)
def test_a_call_without_an_answer_fails_in_words(
    program: SealedProgram, namespace: UserNamespace, probe: str, words: str
) -> None:
    """And the next call works."""
    with pytest.raises(SealedCallFailed, match=words):
        program.call(PROBES, {"probe": probe}, namespace, [], seconds=60)
    assert program.call(PROBES, {"probe": "surroundings"}, namespace, [], seconds=60)["processes"] == ["1"]


@pytest.mark.parametrize("end", ["time", "cancellation", "a killed program"])
def test_a_call_ends_with_its_caller(program: SealedProgram, namespace: UserNamespace, end: str) -> None:
    """Its process has ended when the call raises: it holds nothing any more."""
    cancellation = Cancellation()
    read, write = os.pipe()
    ending = threading.Timer(0.3, cancellation.cancel)
    if end == "a killed program":
        ending = threading.Timer(0.3, os.kill, (program.pid, signal.SIGKILL))
    expected = Cancelled if end == "cancellation" else SealedCallFailed
    try:
        if end != "time":
            ending.start()
        with pytest.raises(expected):
            program.call(
                PROBES, {"probe": "endless"}, namespace, [write], seconds=0.3 if end == "time" else 60,
                cancellation=cancellation,
            )  # fmt: skip
        os.close(write)
        assert wait_readable(read, 30) and os.read(read, 1) == b""
    finally:
        os.close(read)
        ending.cancel()
    assert program.call(PROBES, {"probe": "surroundings"}, namespace, [], seconds=60)["processes"] == ["1"]


def test_a_program_runs_while_it_is_used() -> None:
    """It ends with its last user, and a namespace needs it."""
    made = SealedProgram(PROBES, folders=(TESTS, *sys.path))
    with made.used():
        process = made.pid
        with made.used(), made.namespace() as first, made.namespace() as second:
            assert first.host_ids != second.host_ids or first.lease < 0
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()


def test_a_module_that_cannot_be_imported_fails_in_words() -> None:
    """Instead of waiting for its answer."""
    made = SealedProgram("testing.no_such_module", folders=(TESTS, *sys.path))
    with made.used(), pytest.raises(NamespaceError, match="no_such_module"):
        made.namespace()


def test_a_call_for_which_there_is_no_process_leaves_the_others() -> None:
    """The program and what it carries out go on, and the next call works."""
    made = SealedProgram(PROBES, folders=(TESTS, *sys.path))
    groups = make_groups("test-sealed-calls", ResourceLimits(processes=1))
    try:
        with made.used(), made.namespace() as namespace:
            for folder in groups.entrances:
                (folder / "cgroup.procs").write_text(str(made.pid))
            program = made.pid
            with pytest.raises(SealedCallFailed) as failure:
                made.call(PROBES, {"probe": "surroundings"}, namespace, [], seconds=60)
            assert failure.value.errno == errno.EAGAIN
            for folder in groups.folders:
                for limit in folder.glob("pids.max"):
                    limit.write_text("max")
            assert made.call(PROBES, {"probe": "surroundings"}, namespace, [], seconds=60)["processes"] == ["1"]
            assert made.pid == program
    finally:
        groups.remove()
