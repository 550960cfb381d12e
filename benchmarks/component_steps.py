"""Component steps against ansible tasks: 200 ExecuteBash steps that run `true`, and 200 shell tasks, in turn.

    .venv/bin/python benchmarks/component_steps.py [--steps 200] [--rounds 3] [--peer FOLDER] [--without-peer]

steps    in a container (the tiny image: this machine's own shell and tools) and on this computer. Goals: a step in
         a container under 15 ms, and at least 20 times faster than ansible-core's shell module locally.
         ansible-core is installed from the package index into a virtual environment, kept in --peer.
         Processor time is that of this process and of everything it started, and says more on a busy machine.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.grammar import parse_component
from imagesmith.components.runner import DocumentRun, run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.host import HostInstance
from imagesmith.instances.protocol import Instance
from testing.containers import import_tiny_image

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
    """Seconds that a playbook of shell tasks takes, start-up included."""
    play = folder / f"play{count}.yml"
    lines = "".join("    - ansible.builtin.shell: 'true'\n" for _ in range(count)) or "    []\n"
    play.write_text(f"- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n{lines}")
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False", "LC_ALL": "C.UTF-8"}
    started = time.perf_counter()
    subprocess.run(
        [str(program), "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(play)],
        check=True,
        capture_output=True,
        env=environment,
    )
    return time.perf_counter() - started


def processor_seconds() -> float:
    """What this process and its ended children have used so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass
class Cost:
    """Seconds of the rounds of one subject."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, work: Callable[[], float], *, around: float = 0.0) -> None:
        """`work` gives the seconds on the clock; `around` is the processor time it uses for more than the steps."""
        before = processor_seconds()
        self.wall.append(work())
        self.processor.append(processor_seconds() - before - around)


def in_container(storage: ContainerStorage, image: str, text: str) -> float:
    """Run a document in a container of its own: what ran inside counts as used once the container is closed."""
    container = ContainerInstance.launch(storage, image, name="bench", network="none")
    try:
        container.run(Command(["/bin/true"]))
        return run(text, container)
    finally:
        container.close()


def measure_steps(arguments: argparse.Namespace, folder: Path) -> None:
    text = document(arguments.steps)
    storage = ContainerStorage.open(folder / "storage")
    costs = {"container": Cost(), "host": Cost(), "ansible": Cost()}
    program = None if arguments.without_peer else ansible(arguments.peer)
    image = import_tiny_image(storage)
    launch, empty = Cost(), Cost()
    try:
        for _ in range(arguments.rounds):
            launch.add(lambda: in_container(storage, image, document(1)))
            around = launch.processor[-1]
            costs["container"].add(lambda: in_container(storage, image, text), around=around)
            costs["host"].add(lambda: run(text, HostInstance(folder)))
            if program is not None:
                empty.add(lambda: run_peer(program, 0, folder))
                costs["ansible"].add(
                    lambda: run_peer(program, arguments.steps, folder) - empty.wall[-1], around=empty.processor[-1]
                )
    finally:
        storage.remove_leftovers()
        storage.close()
    print_steps({name: cost for name, cost in costs.items() if cost.wall}, arguments)


def print_steps(costs: dict[str, Cost], arguments: argparse.Namespace) -> None:
    medians: dict[str, float] = {}
    for name, cost in costs.items():
        medians[name], used = (
            1000 * statistics.median(found) / arguments.steps for found in (cost.wall, cost.processor)
        )
        print(
            f"steps    {name:<10} {medians[name]:8.2f} ms a step, {used:8.2f} ms of processor time "
            f"(median of {arguments.rounds} x {arguments.steps})"
        )
    if "ansible" in medians:
        for name in ("container", "host"):
            print(f"ratio    ansible / {name:<10} {medians['ansible'] / medians[name]:6.1f}")


def measure_parsing() -> None:
    count = (65536 - len(HEAD)) // (len(STEP) + 3)
    text = document(count)
    cost = Cost()
    for _ in range(7):
        cost.add(lambda: parse(text))
    wall, used = (1000 * statistics.median(found) for found in (cost.wall, cost.processor))
    print(f"parsing  {len(text) / 1024:.1f} KiB, {count} steps: {wall:.1f} ms, {used:.1f} ms of processor time")


def parse(text: str) -> float:
    """Seconds that reading and checking a document takes."""
    started = time.perf_counter()
    assert parse_component(text).document is not None
    return time.perf_counter() - started


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
