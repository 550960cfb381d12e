"""Kill a process again and again while it starts a sandbox or a tool, and tell what outlives it.

    python -m testing.kills_at_start WHAT KILLS        WHAT is one of STARTS; prints one JSON document

    this process (takes in orphans) --fork--> one that starts something; killed with SIGKILL after a moment

The moments are spread over the time that a start takes here, which is measured first. Whatever is left of a killed
one becomes a child of this process, so nothing hides: neither by name nor by namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.storage import ContainerStorage, storage_key
from imagesmith.instances.command import Command, NetworkKind
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import ControlGroups, ResourceLimits, leftover_groups
from imagesmith.instances.protocol import InstanceError

PR_SET_CHILD_SUBREAPER = 36
SETTLE_SECONDS = 10.0
"""What is still there after so long stays."""
_SPARE = 1.3


def container(folder: Path, network: NetworkKind) -> None:
    """Start the sandbox of a container, with the container's own walls and its spawner, and run a command."""
    storage = ContainerStorage(folder)
    instance = ContainerInstance(storage, "start", network=network, limits=ResourceLimits(), cancellation=None)
    instance._root = folder / "root"
    instance._start()
    instance.run(Command(["/bin/true"]))


def tools(tree: bool) -> None:
    """Start several tools of the host, one after the other and at the same time."""

    def run() -> None:
        for _ in range(4):
            processes.run(["sh", "-c", "sleep 0.005; exec sleep 600"], tree=tree, timeout=0.02)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


STARTS: dict[str, Callable[[Path], None]] = {
    "container": lambda folder: container(folder, "none"),
    "networked": lambda folder: container(folder, "outbound"),
    "tool": lambda _: tools(False),
    "tree": lambda _: tools(True),
}


def begin(start: Callable[[Path], None], folder: Path) -> int:
    """Start it in a process of its own, which waits to be killed."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(InstanceError):
            start(folder)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    return pid


def children() -> dict[int, str]:
    """The processes that were left to this one, and what they run; those that have ended are reaped."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = {}
    for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(OSError):
            line = Path("/proc", word, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(word)] = line.strip() or Path("/proc", word, "comm").read_text().strip()
    return found


def survivors() -> list[str]:
    """What stays although its server is gone; ended now, so that the next kill begins with nothing."""
    until = time.monotonic() + SETTLE_SECONDS
    while (left := children()) and time.monotonic() < until:
        time.sleep(0.005)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while children():
        time.sleep(0.005)
    return list(left.values())


def main() -> None:
    start, kills = STARTS[sys.argv[1]], int(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.mkdtemp())
    before = time.monotonic()
    pid = begin(start, folder)
    os.waitpid(pid, os.WUNTRACED)
    seconds = time.monotonic() - before
    os.kill(pid, signal.SIGKILL)
    assert survivors() == [], "what has started completely outlives its server"
    left: list[str] = []
    for _ in range(kills):
        pid = begin(start, folder)
        time.sleep(random.uniform(0, seconds * _SPARE))
        os.kill(pid, signal.SIGKILL)
        left += survivors()
    ControlGroups(leftover_groups(storage_key(folder)), ()).remove()
    print(json.dumps({"kills": kills, "start_ms": round(seconds * 1000), "survivors": left}))


if __name__ == "__main__":
    main()
