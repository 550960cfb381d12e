"""Builds that wait in one stage until a test lets them go on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testing.leaks import descendants, groups_of, running_below
from testing.pipeline_support import HOLD, TEMPLATE, Forge, RunningServer, eventually, held, read_tool, release
from testing.socket_proxy import Gate

STAGES = ("parent", "dockerfile", "components", "export", "test", "push")
"""Where a build can be caught."""

AGAIN = {
    "parent": "build | the server stopped during LaunchBuildInstance; attempt 2 begins",
    "dockerfile": "build | the server stopped during LaunchBuildInstance; attempt 2 begins",
    "components": (
        "build | the server stopped during ApplyBuildComponents and lost its instance; the workflow starts again"
    ),
    "export": "build | the server stopped at the end of the build; attempt 2 begins",
    "test": "test | the server stopped during ApplyTestComponents and lost its instance; the workflow starts again",
    "push": "distribute | the server stopped during this stage; attempt 2 begins",
}
"""What the log says when a server that was killed in a stage goes on."""


PROMPT_SECONDS = 2.0
"""How long a cancel or a SIGTERM may take on a machine that does nothing else."""


def prompt_seconds() -> float:
    """PROMPT_SECONDS, longer by the share of time that the machine's other work takes from the server.

    The tests run beside each other, two processes on each processor.
    """
    return PROMPT_SECONDS * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True)
class Caught:
    """A build that waits: how to let it go on, in this process of the server or in the next."""

    arn: str
    let_go: Callable[[], None]
    groups: tuple[Path, ...] = ()
    """The control groups of what runs inside."""


def nothing() -> None:
    """Let go of a build that does not wait when it comes to the place again."""


def catch(stage: str, forge: Forge, gate: Gate) -> Caught:
    """Start a build and wait until it has come to a stage. The registry of the server is behind the gate."""
    name = forge.name(stage)
    server = forge.server
    if stage == "parent":
        arn = forge.start(forge.recipe(forge.component(build="true"), parentImage=registry_parent(server, gate)))
        assert gate.waiting.wait(30)
        return Caught(arn, gate.open)
    if stage == "push":
        gate.shut()
        arn = forge.start(forge.recipe(forge.component(build="true")))
        assert gate.waiting.wait(60)
        return Caught(arn, gate.open)
    if stage == "export":
        script = "head -c 30000000 /dev/urandom > /random"
        arn = forge.start(forge.recipe(forge.component(build=f"{script}; {HOLD.format(name=name)}")))
        return Caught(arn, hold_export(server, name))
    hold = HOLD.format(name=name)
    if stage == "dockerfile":
        template = TEMPLATE.replace("{{{ imagebuilder:components }}}", f"RUN {hold}")
        arn = forge.start(forge.recipe(forge.component(build="true"), dockerfileTemplateData=template))
    else:
        scripts = {"build" if stage == "components" else "test": f"echo begun; {hold}"}
        arn = forge.start(forge.recipe(forge.component(**scripts)))
    groups = tuple(groups_of(held(name)))
    assert groups
    return Caught(arn, lambda: release(name), groups)


def registry_parent(server: RunningServer, gate: Gate) -> str:
    """Put the tiny image into the registry, shut the gate and give the reference of the image behind it."""
    gate.open()
    reference = f"{gate.host}/base/tiny:1"
    read_tool("skopeo", "copy", "--quiet", "--dest-tls-verify=false", server.parent, f"docker://{reference}")
    gate.shut()
    return reference


def hold_export(server: RunningServer, name: str) -> Callable[[], None]:
    """Let a build go on from its HOLD to its export, which waits for the lock of the layout; returns what lets it
    go on. The lock is free once the server is killed."""
    held(name)
    lock = server.data_dir / "oci" / "lock"
    script = f"echo held; while kill -0 {server.pid} 2>/dev/null; do sleep 0.05; done"
    argv = ["flock", "--close", str(lock), "sh", "-c", script]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    holder.stdout.close()
    release(name)
    eventually(lambda: _has_open(server.pid, lock), "an image waits for the lock of the layout")

    def let_go() -> None:
        holder.kill()
        holder.wait()

    return let_go


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(link.readlink())
    return path in found


def is_waited_for(lock: int) -> bool:
    """Whether a process waits for the lock of an open file."""
    number = os.fstat(lock).st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return any(" -> " in line and f":{number} " in line for line in lines)


def find_below(server: RunningServer, *needles: str) -> int:
    """The first process of the server whose command line starts with the first text and has the others; 0: none."""
    for pid, words in sorted(descendants(server.pid).items()):
        if words.startswith(needles[0]) and all(needle in words for needle in needles):
            return pid
    return 0


def kill_below(server: RunningServer, *needles: str) -> None:
    """Kill the process that find_below() finds. There must be one: a signal to process 0 reaches the tests."""
    pid = find_below(server, *needles)
    assert pid, f"no process {needles} among {sorted(descendants(server.pid).values())}"
    os.kill(pid, signal.SIGKILL)


def freeze(server: RunningServer, *needles: str) -> int:
    """Stop a process of the server as soon as there is one that matches."""
    pid = eventually(lambda: find_below(server, *needles), f"a process {needles}", seconds=60, pause=0.005)
    os.kill(pid, signal.SIGSTOP)
    return pid


def freeze_at(server: RunningServer, pattern: str) -> None:
    """Stop the server, which is killed next, as soon as its data directory has a new path of this pattern."""
    before = set(server.data_dir.glob(pattern))
    eventually(lambda: set(server.data_dir.glob(pattern)) - before, f"a path {pattern}", seconds=60, pause=0.001)
    os.kill(server.pid, signal.SIGSTOP)


def die_and_come_back(server: RunningServer) -> None:
    """kill -9 of the server; everything it ran ends with it, and it starts again."""
    server.kill()
    eventually(lambda: not running_below(server), "everything ends with the server", seconds=10)
    server.start()


DATABASES = ("sqlite", "postgresql")

Tally = Callable[[int, str], None]
"""(runs, what happened to them)."""
