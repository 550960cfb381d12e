"""How long commands take to start, and how many modules they import, against a commit before.

    .venv/bin/python benchmarks/startup.py [--before REVISION] [--runs N]

Both trees run with the same interpreter and libraries, in turn; the figures are medians of whole processes. The
goals: `--help` under 250 modules and 0.4 times the time, `component validate` under 300 and 0.5 times, `serve` 0.7
times, from its start to its first line in a data directory that exists.

Both run compiled, as an installed package does, whatever the environment says of bytecode. Of `serve` the time on
the processors is compared as well: on a busy machine the clock measures what else runs.
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


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """The tree of a revision, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.Popen(["git", "-C", HERE, "archive", revision, "src"], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
        if archive.wait() != 0:
            raise SystemExit(f"git has no revision {revision}")
        yield Path(folder)


def environment(tree: Path) -> dict[str, str]:
    """Bytecode is kept in a folder of the benchmark, so that nothing is written into the trees."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(tree / "src"), "PYTHONPYCACHEPREFIX": BYTECODE.name}


def modules(tree: Path, words: tuple[str, ...]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *words], env=environment(tree), capture_output=True, text=True, check=True
    )
    return int(done.stderr.split()[-1])


def command_seconds(tree: Path, words: tuple[str, ...]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", MAIN, *words], env=environment(tree), stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - started


def processor_seconds(pid: int) -> float:
    """What a process and its children that have ended took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def serve_seconds(tree: Path, data_dir: Path, used: list[float]) -> float:
    """From the start of the process to `listening on`; `used` takes the time on the processors."""
    argv = [sys.executable, "-c", MAIN, "serve", "--port", "0", "--data-dir", str(data_dir)]
    started = time.perf_counter()
    with subprocess.Popen(argv, env=environment(tree), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            while "listening on" not in (line := server.stdout.readline()):
                if not line:
                    raise SystemExit("the server ended before it listened")
            seconds = time.perf_counter() - started
            used.append(processor_seconds(server.pid))
            return seconds
        finally:
            server.terminate()


def compare(name: str, measure: Callable[[Path], float], before: Path, runs: int, note: str = "") -> None:
    times: dict[Path, list[float]] = {before: [], HERE: []}
    for tree in times:
        measure(tree)  # compiles what has not been compiled
    for _ in range(runs):
        for tree, seconds in times.items():
            seconds.append(measure(tree))
    was, is_ = (statistics.median(seconds) for seconds in times.values())
    print(f"{name:20} {was:7.3f} s -> {is_:7.3f} s  ratio {is_ / was:.2f}  {note}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--before", default=BEFORE, help="the revision to compare with")
    options.add_argument("--runs", type=int, default=7)
    chosen = options.parse_args()
    with checked_out(chosen.before) as before, tempfile.TemporaryDirectory() as data:
        for name, words in COMMANDS.items():
            note = f"modules {modules(before, words)} -> {modules(HERE, words)}"
            compare(name, lambda tree, words=words: command_seconds(tree, words), before, chosen.runs, note)
        folders = {before: Path(data, "before"), HERE: Path(data, "now")}  # each has a schema of its own
        used: dict[Path, list[float]] = {before: [], HERE: []}
        compare("serve", lambda tree: serve_seconds(tree, folders[tree], used[tree]), before, chosen.runs)
        was, is_ = (statistics.median(seconds[1:]) for seconds in used.values())
        print(f"{'  on processors':20} {was:7.3f} s -> {is_:7.3f} s  ratio {is_ / was:.2f}")


if __name__ == "__main__":
    main()
