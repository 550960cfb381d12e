"""The engine alone: images without a BUILD workflow, whose steps do nothing, on a server of its own.

    .venv/bin/python benchmarks/engine.py [--builds 1000] [--waiting 500] [--interrupted 100]

overhead      20 empty steps in two workflows, from the start of the first to the end of the last
throughput    builds that adopt their parent and run one empty step, from the first start to the last end
waiting       processor time of the server while builds wait for an action
recovery      builds that run a step when the server is killed: from the restart to the first that goes on
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagesmith.cli.context import connect
from imagesmith.values.names import parse_instant

REGION = "us-east-1"
ENDED = ("AVAILABLE", "FAILED", "CANCELLED")
EMPTY = "  - {name: Step%d, action: TerminateInstance, inputs: {instanceId: i-none}}\n"


HOLD = """\
#!/bin/sh
cat >/dev/null
mktemp {folder}/held.XXXXXX >/dev/null
until [ -e {folder}/go ]; do sleep 0.2; done
"""


class Server:
    """A server process on a data directory, and what its builds need."""

    def __init__(self, folder: Path, *, concurrency: int) -> None:
        self.data_dir = folder / "data"
        self.data_dir.mkdir()
        hook = folder / "hold"
        hook.write_text(HOLD.format(folder=folder))
        hook.chmod(0o755)
        (self.data_dir / "settings.toml").write_text(
            f'region = "{REGION}"\n[builds]\nconcurrency = {concurrency}\n[hooks.hold]\ncommand = ["{hook}"]\n'
        )
        self.process = self.start()
        self.client: Any = connect(self.data_dir)
        self.parent = ""

    def start(self) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).parent / "imagesmith"), "serve", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--data-dir", str(self.data_dir)], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        if not process.stdout.readline().startswith("listening"):
            raise SystemExit("the server did not start")
        return process

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(60)

    def seconds_used(self) -> float:
        """Processor time of the server so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def prepare(self) -> None:
        """Build the base once; later builds have the result as parent and copy nothing."""
        self.infrastructure = self.client.create_infrastructure_configuration(
            name="bench", instanceProfileName="none"
        )["infrastructureConfigurationArn"]
        first = self.recipe("base", f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x")
        arn = self.client.create_image(
            containerRecipeArn=first, infrastructureConfigurationArn=self.infrastructure,
            imageTestsConfiguration={"imageTestsEnabled": False},
        )["imageBuildVersionArn"]  # fmt: skip
        self.wait(arn, ENDED, pause=0.2)
        self.image_recipe = self.recipe("noop", arn)

    def recipe(self, name: str, parent: str) -> str:
        return str(
            self.client.create_container_recipe(
                containerType="DOCKER", name=name, semanticVersion="1.0.0", parentImage=parent,
                dockerfileTemplateData="FROM {{{ imagebuilder:parentImage }}}\n",
                targetRepository={"service": "ECR", "repositoryName": name},
            )["containerRecipeArn"]
        )  # fmt: skip

    def workflow(self, name: str, steps: str) -> str:
        made = self.client.create_workflow(
            name=name, semanticVersion="1.0.0", type="TEST", data=f"schemaVersion: 1.0\nsteps:\n{steps}"
        )
        return str(made["workflowBuildVersionArn"])

    def run(self, *workflows: str) -> str:
        return str(
            self.client.create_image(
                containerRecipeArn=self.image_recipe, infrastructureConfigurationArn=self.infrastructure,
                workflows=[{"workflowArn": arn} for arn in workflows], executionRole="bench",
                enhancedImageMetadataEnabled=False,
            )["imageBuildVersionArn"]
        )  # fmt: skip

    def state(self, arn: str) -> str:
        return str(self.client.get_image(imageBuildVersionArn=arn)["image"]["state"]["status"])

    def wait(self, arn: str, states: tuple[str, ...] = ENDED, *, pause: float = 0.02) -> None:
        until(lambda: self.state(arn) in states, pause)


def until(condition: Callable[[], bool], pause: float, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("it did not happen in time")
        time.sleep(pause)


def overhead(server: Server, rounds: int) -> None:
    ten = [server.workflow(f"ten-{half}", "".join(EMPTY % (half * 10 + n) for n in range(10))) for half in (0, 1)]
    times = []
    for _ in range(rounds):
        arn = server.run(*ten)
        server.wait(arn)
        found = server.client.list_workflow_executions(imageBuildVersionArn=arn)["workflowExecutions"]
        spent = parse_instant(found[-1]["endTime"]) - parse_instant(found[0]["startTime"])
        times.append(spent.total_seconds())
    print(f"20 empty steps, median of {rounds}: {statistics.median(times) * 1000:.0f} ms (goal: under 1000 ms)")


def throughput(server: Server, builds: int) -> None:
    one = server.workflow("one", EMPTY % 0)
    started = time.monotonic()
    arns = [server.run(one) for _ in range(builds)]
    accepted = time.monotonic() - started
    for arn in reversed(arns):
        server.wait(arn, pause=0.5)
    seconds = time.monotonic() - started
    bad = sum(server.state(arn) != "AVAILABLE" for arn in arns)
    print(
        f"{builds} no-op builds: {builds / seconds:.1f} per second (goal: at least 10); "
        f"accepted in {accepted:.1f} s, {bad} not AVAILABLE"
    )


def waiting(server: Server, builds: int, seconds: float) -> None:
    ask = server.workflow("ask", "  - {name: Ask, action: WaitForAction}\n")
    for _ in range(builds):
        server.run(ask)

    def all_wait() -> bool:
        pages = server.client.get_paginator("list_waiting_workflow_steps").paginate()
        return sum(len(page["steps"]) for page in pages) >= builds

    until(all_wait, 2.0)
    time.sleep(3)
    before = server.seconds_used()
    time.sleep(seconds)
    share = (server.seconds_used() - before) / seconds
    print(f"{builds} waiting builds: {share * 100:.1f} % of a core (goal: under 10 %)")


def recovery(folder: Path, builds: int) -> None:
    place = folder / "recovery"
    place.mkdir()
    server = Server(place, concurrency=builds)
    server.prepare()
    name = "arn:aws:states:us-east-1:000000000000:stateMachine:hold"
    hold = server.workflow(
        "hold", f"  - {{name: Hold, action: ExecuteStateMachine, inputs: {{stateMachineArn: '{name}'}}}}\n"
    )
    arns = [server.run(hold) for _ in range(builds)]
    until(lambda: len(list(place.glob("held.*"))) >= builds, 0.5)
    server.stop(signal.SIGKILL)
    for mark in place.glob("held.*"):
        mark.unlink()
    started = time.monotonic()
    server.process = server.start()
    ready = time.monotonic() - started
    until(lambda: bool(list(place.glob("held.*"))), 0.02)
    first = time.monotonic() - started
    until(lambda: len(list(place.glob("held.*"))) >= builds, 0.2)
    last = time.monotonic() - started
    (place / "go").touch()
    server.client = connect(server.data_dir)
    for arn in arns:
        server.wait(arn, pause=0.2)
    bad = sum(server.state(arn) != "AVAILABLE" for arn in arns)
    server.stop()
    print(
        f"{builds} interrupted builds: the server answers {ready:.1f} s after its start, the first goes on at "
        f"{first:.1f} s (goal: under 5 s), the last at {last:.1f} s; {bad} not AVAILABLE"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--builds", type=int, default=1000)
    parser.add_argument("--waiting", type=int, default=500)
    parser.add_argument("--interrupted", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long waiting builds are watched")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagesmith-bench-") as folder:
        server = Server(Path(folder), concurrency=2)
        try:
            server.prepare()
            overhead(server, chosen.rounds)
            throughput(server, chosen.builds)
            waiting(server, chosen.waiting, chosen.seconds)
        finally:
            server.stop()
        recovery(Path(folder), chosen.interrupted)


if __name__ == "__main__":
    main()
