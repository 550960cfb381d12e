"""How long commands take to start, and how many modules they import, against a commit before.

    .venv/bin/python benchmarks/startup.py [--before REVISION] [--runs N]

Both trees run in turn with the same Python; the commit before has the libraries of its own lock file, which this
program installs with uv for the measurement. The figures are medians of whole processes. The goals: `--help` under
250 modules and 0.4 times the time, `component validate` under 300 and 0.5 times, `serve` 0.7 times, from its start
to its first line in a data directory that exists.

Both run compiled, as an installed package does, whatever the environment says of bytecode. The time on the
processors is compared as well: on a busy machine the clock measures what else runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
BEFORE = "f266e4c"
MAIN = "import sys; from imagesmith.cli.main import main; sys.argv = ['imagesmith', *sys.argv[1:]]; main()"
COUNTED = (
    "import sys, atexit; atexit.register(lambda: print('modules', len(sys.modules), file=sys.stderr)); " + MAIN
)
BYTECODE = tempfile.TemporaryDirectory(prefix="imagesmith-bytecode-")
COMMANDS = {
    "--help": ("--help",),
    "component validate": ("component", "validate", str(HERE / "demo/web-server.yml")),
    "schedule next": ("schedule", "next", "cron(0 9 ? * mon#1 *)"),
}


@dataclass(frozen=True)
class Tree:
    """A checkout, and a Python with the libraries of its lock file."""

    folder: Path
    python: str

    def argv(self, program: str, *words: str) -> list[str]:
        return [self.python, "-c", program, *words]

    def environment(self) -> dict[str, str]:
        """Bytecode is kept in a folder of the benchmark, so that nothing is written into the trees."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "PYTHONPATH": str(self.folder / "src"), "PYTHONPYCACHEPREFIX": BYTECODE.name}


NOW = Tree(HERE, sys.executable)


@dataclass(frozen=True)
class Sample:
    """Seconds of one measurement, by the clock and on the processors."""

    clock: float
    processors: float


@contextmanager
def checked_out(revision: str) -> Iterator[Tree]:
    """A revision in a folder of its own, with its libraries."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = subprocess.Popen(
            ["git", "-C", HERE, "archive", revision, "src", "requirements"], stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
        if archive.wait() != 0:
            raise SystemExit(f"git has no revision {revision}")
        python = str(folder / "venv/bin/python")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        subprocess.run([*uv, "--require-hashes", "-r", folder / "requirements/dev.txt"], check=True)
        yield Tree(folder, python)


def modules(tree: Tree, words: tuple[str, ...]) -> int:
    done = subprocess.run(
        tree.argv(COUNTED, *words), env=tree.environment(), capture_output=True, text=True, check=True
    )
    return int(done.stderr.split()[-1])


def command_sample(tree: Tree, words: tuple[str, ...]) -> Sample:
    started = time.perf_counter()
    with subprocess.Popen(tree.argv(MAIN, *words), env=tree.environment(), stdout=subprocess.DEVNULL) as command:
        _, status, usage = os.wait4(command.pid, 0)
        command.returncode = os.waitstatus_to_exitcode(status)
    if command.returncode != 0:
        raise SystemExit(f"imagesmith {' '.join(words)} of {tree.folder} failed")
    return Sample(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


def processor_seconds(pid: int) -> float:
    """The processor time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def serve_sample(tree: Tree, data_dir: Path) -> Sample:
    """From the start of the process to `listening on`."""
    words = ("serve", "--port", "0", "--data-dir", str(data_dir))
    started = time.perf_counter()
    with subprocess.Popen(
        tree.argv(MAIN, *words), env=tree.environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            while "listening on" not in (line := server.stdout.readline()):
                if not line:
                    raise SystemExit("the server ended before it listened")
            return Sample(time.perf_counter() - started, processor_seconds(server.pid))
        finally:
            server.terminate()


def compare(name: str, measure: Callable[[Tree], Sample], before: Tree, runs: int, note: str = "") -> None:
    """Prints the medians of both trees and their ratios."""
    samples: dict[Tree, list[Sample]] = {before: [], NOW: []}
    for tree in samples:
        measure(tree)  # compiles what has not been compiled
    for _ in range(runs):
        for tree, measured in samples.items():
            measured.append(measure(tree))
    for title, pick in ((name, lambda one: one.clock), ("  on processors", lambda one: one.processors)):
        was, now = (statistics.median(map(pick, measured)) for measured in samples.values())
        print(f"{title:20} {was:7.3f} s -> {now:7.3f} s  ratio {now / was:.2f}  {note}", flush=True)
        note = ""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--before", default=BEFORE, help="the revision to compare with")
    options.add_argument("--runs", type=int, default=7)
    chosen = options.parse_args()
    with checked_out(chosen.before) as before, tempfile.TemporaryDirectory() as data:
        for name, words in COMMANDS.items():
            note = f"modules {modules(before, words)} -> {modules(NOW, words)}"
            compare(name, lambda tree, words=words: command_sample(tree, words), before, chosen.runs, note)
        folders = {before: Path(data, "before"), NOW: Path(data, "now")}  # each has a schema of its own
        compare("serve", lambda tree: serve_sample(tree, folders[tree]), before, chosen.runs)


if __name__ == "__main__":
    main()
