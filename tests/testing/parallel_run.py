"""Runs all tests in several pytest processes side by side: `python parallel_run.py [-- pytest arguments]`.

    process 1 --take--> [file] [file] ...   each with a folder for temporary files and a log of its own
    process 2 --take--> [file] ...          notes of the files taken: testing/file_queue.py

Many tests wait, for emulated machines and servers that start: two processes on each processor. The end prints the
logs, and the coverage of a run of all tests. After SIGINT or SIGTERM each process ends as after
Ctrl-C, so that fixtures end their servers; whatever still runs then is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from imagesmith.trees import remove_tree
from testing.file_queue import DURATIONS, file_of_note
from testing.leaks import descendants

_PER_PROCESSOR = 2
_LOOK_SECONDS = 0.5
_END_SECONDS = 120.0
_LIBC = ctypes.CDLL(None)
_ADOPT_ORPHANS, _SIGNAL_OF_PARENTS_DEATH = 36, 1  # PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG


class Stopped(BaseException):
    """A signal asked this process to end."""


class Worker:
    """One pytest process."""

    def __init__(self, folder: Path, number: int, words: list[str]) -> None:
        temporary = folder / str(number)
        temporary.mkdir(mode=0o755)
        self.log = folder / f"{number}.log"
        measured = ["-m", "coverage", "run", "--parallel-mode", f"--data-file={folder / 'coverage'}"]
        argv = [
            sys.executable, *([] if words else measured), "-m", "pytest",
            "-o", f"cache_dir={folder / f'cache-{number}'}", f"--file-queue={folder / 'queue'}", *words,
        ]  # fmt: skip
        environment = {
            "TEST_BASES_FOLDER": str(folder / "bases"), **os.environ, "PYTEST_DEBUG_TEMPROOT": str(temporary),
        }  # fmt: skip
        with self.log.open("wb") as log:
            # a group of its own: Ctrl-C in a terminal must reach it once, from here
            self.process = subprocess.Popen(
                argv, env=environment, stdout=log, stderr=log, process_group=0, preexec_fn=_end_with_parent
            )

    def end(self) -> None:
        """Wait for its end after the signal, which fixtures may need a while for."""
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def run_folder() -> Iterator[Path]:
    # lower case: buildah makes image names of paths; 755: PostgreSQL runs as another user
    folder = Path(tempfile.gettempdir()) / f"imagesmith-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    for name in ("queue", "bases"):
        (folder / name).mkdir(mode=0o755)
    try:
        yield folder
    finally:
        remove_tree(folder)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--store-durations", action="store_true", help=f"write {DURATIONS.name} anew")
    options.add_argument("--workers", type=int, default=_PER_PROCESSOR * (os.cpu_count() or 1))
    options.add_argument("words", nargs="*", metavar="pytest argument", help="of each process")
    chosen = options.parse_args()
    _LIBC.prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _stop)
    with run_folder() as folder:
        workers: list[Worker] = []
        try:
            for number in range(1, chosen.workers + 1):
                workers.append(Worker(folder, number, chosen.words))
            follow(folder / "queue", workers)
            failed = report(folder, workers, store=chosen.store_durations)
            uncovered = 0 if chosen.words else report_coverage(folder)  # a failed test does not hide it
            return failed or uncovered
        except Stopped:
            print("==> stopping", file=sys.stderr, flush=True)
            return 130
        finally:
            _end_all(workers)


def follow(queue: Path, workers: list[Worker]) -> None:
    """Print each file that is over, until all processes have ended."""
    told: set[str] = set()
    while True:
        running = any(worker.process.poll() is None for worker in workers)
        for name, note in notes(queue).items():
            if name not in told:
                told.add(name)
                outcome = f"{note['failed']} FAILED" if note["failed"] else "passed"
                print(f"{note['seconds']:7.1f} s  {name}: {outcome}", file=sys.stderr, flush=True)
        if not running:
            return
        time.sleep(_LOOK_SECONDS)


def notes(queue: Path) -> dict[str, dict[str, float]]:
    """What became of the files that are over."""
    found = {}
    for place in queue.iterdir():
        with suppress(ValueError):  # empty or half written: it still runs
            found[file_of_note(place.name)] = json.loads(place.read_text())
    return found


def report(folder: Path, workers: list[Worker], *, store: bool) -> int:
    """Print the logs, those of failures last; returns the exit status."""
    statuses = [worker.process.returncode for worker in workers]
    for worker in sorted(workers, key=lambda worker: worker.process.returncode != 0):
        print(f"==> tests, process {workers.index(worker) + 1}", flush=True)
        print(worker.log.read_text(errors="replace"), flush=True)
    finished = notes(folder / "queue")
    unfinished = sorted({file_of_note(place.name) for place in (folder / "queue").iterdir()} - set(finished))
    if unfinished:
        print(f"==> not finished: {', '.join(unfinished)}", flush=True)
    if store:
        seconds = {name: note["seconds"] for name, note in sorted(finished.items())}
        DURATIONS.write_text(json.dumps(seconds, indent=1) + "\n")
    return next((status for status in statuses if status), int(bool(unfinished)))


def report_coverage(folder: Path) -> int:
    """Print the coverage of a whole run; returns 2 below the floor that pyproject.toml sets."""
    print("==> per cent of lines and branches that the fast tests run in their own process", flush=True)
    coverage = [sys.executable, "-m", "coverage"]
    data = f"--data-file={folder / 'coverage'}"
    subprocess.run([*coverage, "combine", "--quiet", data], check=False)
    return subprocess.run([*coverage, "report", "--format=total", data], check=False).returncode


def _end_with_parent() -> None:
    """Runs in the child: also kill -9 of the parent ends it, as Ctrl-C would."""
    _LIBC.prctl(_SIGNAL_OF_PARENTS_DEATH, signal.SIGINT, 0, 0, 0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _end_all(workers: list[Worker]) -> None:
    """End the processes, then whatever they left behind."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the ending itself takes a while
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGINT)
    for worker in workers:
        worker.end()
    while left := descendants(os.getpid()):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
