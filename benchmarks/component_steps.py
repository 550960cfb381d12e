"""Component steps against ansible tasks: 200 ExecuteBash steps that run `true`, and 200 shell tasks, in turn.

    .venv/bin/python benchmarks/component_steps.py [--steps 200] [--rounds 3] [--peer FOLDER] [--without-peer]

steps    in a container (the tiny image: this machine's own shell and tools) and on this computer. Goals: a step in
         a container under 15 ms, and at least 20 times faster than ansible-core's shell module locally.
         ansible-core is installed from the package index into a virtual environment, kept in --peer.
parsing  reading and checking a document of 64 KiB. Goal: under 100 ms.
memory   growth of this process over 10,000 loop iterations. Goal: flat (below 10 MiB).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fixtures_containers import import_tiny_image
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.grammar import parse_component
from imagesmith.components.runner import DocumentRun, run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.instances.protocol import Instance

HEAD = (
    "schemaVersion: 1.0\nparameters:\n  - Name: {type: string, default: x}\nphases:\n  - name: build\n    steps:\n"
)
STEP = (
    "      - name: Step{}\n        action: ExecuteBash\n        inputs:\n          commands:\n          - 'true'\n"
)


def document(count: int) -> str:
    return HEAD + "".join(STEP.format(number) for number in range(count))


def run(text: str, instance: Instance) -> float:
    """Seconds that a run of a document takes."""
    parsed = parse_component(text)
    assert parsed.document is not None
    started = time.perf_counter()
    result = run_documents(
        [DocumentRun(parsed.document, "bench")], instance, clock=SystemClock(), ids=lambda: str(uuid.uuid4())
    )
    assert result.status == "success", result.failure
    return time.perf_counter() - started


def ansible(folder: Path) -> Path:
    """The peer's program, installed on first use."""
    program = folder / "bin" / "ansible-playbook"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "ansible-core"], check=True)
    return program


def run_peer(program: Path, count: int, folder: Path) -> float:
    """Seconds that a playbook of shell tasks takes, without its start-up (measured with no task)."""
    times = []
    for tasks in (0, count):
        play = folder / f"play{tasks}.yml"
        lines = "".join("    - ansible.builtin.shell: 'true'\n" for _ in range(tasks)) or "    []\n"
        play.write_text(f"- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n{lines}")
        environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False", "LC_ALL": "C.UTF-8"}
        started = time.perf_counter()
        subprocess.run(
            [str(program), "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(play)],
            check=True,
            capture_output=True,
            env=environment,
        )
        times.append(time.perf_counter() - started)
    return times[1] - times[0]


def measure_steps(arguments: argparse.Namespace, folder: Path) -> None:
    text = document(arguments.steps)
    storage = ContainerStorage.open(folder / "storage", Path("/run/imagesmith-bench") / folder.name)
    seconds: dict[str, list[float]] = {"container": [], "host": [], "ansible": []}
    program = None if arguments.without_peer else ansible(arguments.peer)
    container = ContainerInstance.launch(storage, import_tiny_image(storage), name="bench", network="none")
    try:
        for _ in range(arguments.rounds):
            seconds["container"].append(run(text, container))
            seconds["host"].append(run(text, HostInstance(folder)))
            if program is not None:
                seconds["ansible"].append(run_peer(program, arguments.steps, folder))
    finally:
        container.close()
        storage.sweep()
        storage.close()
    medians = {name: 1000 * statistics.median(found) / arguments.steps for name, found in seconds.items() if found}
    for name, value in medians.items():
        print(f"steps    {name:<10} {value:8.2f} ms a step (median of {arguments.rounds} x {arguments.steps})")
    if "ansible" in medians:
        for name in ("container", "host"):
            print(f"ratio    ansible / {name:<10} {medians['ansible'] / medians[name]:6.1f}")


def measure_parsing() -> None:
    count = (65536 - len(HEAD)) // (len(STEP) + 3)
    text = document(count)
    times = []
    for _ in range(7):
        started = time.perf_counter()
        assert parse_component(text).document is not None
        times.append(time.perf_counter() - started)
    print(f"parsing  {len(text) / 1024:.1f} KiB, {count} steps: {1000 * statistics.median(times):.1f} ms")


def measure_memory(folder: Path) -> None:
    loop = "        loop:\n          for: {start: 1, end: 10000, updateBy: 1}\n        inputs:"
    text = document(1).replace("        inputs:", loop).replace("'true'", "echo {{ loop.value }}")
    run(document(3), HostInstance(folder))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = run(text, HostInstance(folder))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"memory   10,000 iterations in {seconds:.1f} s: peak grew by {grown:.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, default=Path(tempfile.gettempdir()) / "imagesmith-bench-ansible")
    parser.add_argument("--without-peer", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagesmith-bench-") as name:
        measure_parsing()
        measure_steps(arguments, Path(name))
        measure_memory(Path(name))


if __name__ == "__main__":
    main()
