"""Programs that run beside their caller, and that there is one place which starts any."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path

import pytest

import imagesmith
from imagesmith.background import Background
from imagesmith.processes import Stream
from imagesmith.streams import wait_readable

SOURCE = Path(imagesmith.__file__).parent


def test_a_program_ends_by_itself_and_says_how() -> None:
    """Its output arrives while it runs; its status and its last bytes are kept."""
    seen: list[tuple[Stream, bytes]] = []
    program = Background(["sh", "-c", "echo on; exit 3"], name="test", on_output=lambda *said: seen.append(said))
    assert program.wait(60)
    assert program.completed is not None
    assert (program.completed.returncode, program.completed.stdout) == (3, b"on\n")
    assert seen == [("stdout", b"on\n")] and program.failure is None


def test_close_ends_the_program_and_what_it_started() -> None:
    """Nothing of its group is left, and closing it again does nothing."""
    said = threading.Event()
    pids: list[int] = []

    def collect(_: Stream, chunk: bytes) -> None:
        pids.extend(int(word) for word in chunk.split())
        said.set()

    program = Background(["sh", "-c", "sleep 600 & echo $$ $!; wait"], name="test", on_output=collect)
    assert said.wait(60) and not program.wait(0) and len(pids) == 2
    ends = [os.pidfd_open(pid) for pid in pids]
    program.close()
    assert program.wait(0) and program.completed is None
    for end in ends:
        assert wait_readable(end, 60)
        os.close(end)
    program.close()


def test_a_program_that_does_not_exist_ends_as_in_a_shell() -> None:
    """With status 127 and its name."""
    program = Background(["no-such-program"], name="test")
    assert program.wait(60)
    assert program.completed is not None and program.completed.returncode == 127
    assert "no-such-program" in program.completed.tail()


def test_a_program_outlives_the_thread_that_began_it() -> None:
    """A machine runs on when the worker's thread that launched it is done."""
    read = threading.Semaphore(0)
    made: list[Background] = []

    def begin() -> None:
        made.append(Background(["yes"], name="test", on_output=lambda *_: read.release()))

    starter = threading.Thread(target=begin)
    starter.start()
    starter.join()
    for _ in range(50):
        assert read.acquire(timeout=60)
    (program,) = made
    assert program.running
    program.close()


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_only_one_module_starts_programs() -> None:
    """Everything else goes through imagesmith.processes, but for the programs that run without the package."""
    alone = {"spawner_program.py", "maker_program.py", "sealed_program.py"}
    starts = ("Popen", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen", "subprocess.run")
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.name not in alone
        and path.parent.name != "program"
        and not calls(ast.parse(path.read_text())).isdisjoint(starts)
    }
    assert found == {"processes.py"}


@pytest.mark.parametrize("name", ["instances", "builds/disk_cache.py"])
def test_time_comes_in(name: str) -> None:
    """No module of instances reads a clock or sleeps by itself: a test can set both."""
    place = SOURCE / name
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    clocks = {"time.time", "time.time_ns", "time.monotonic", "time.sleep", "datetime.now", "datetime.utcnow"}
    found = {path.name: calls(ast.parse(path.read_text())) & clocks for path in paths}
    assert {name: said for name, said in found.items() if said} == {}
