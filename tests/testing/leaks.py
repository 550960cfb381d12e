"""What a server may not leave behind: processes, mounts, containers, temporary files, control groups."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from imagesmith.artifacts.storage import storage_key
from imagesmith.instances.limits import leftover_groups
from testing.pipeline_support import RunningServer

_SETTLE_SECONDS = 5.0


def descendants(of: int) -> dict[int, str]:
    """Every process below one, and what it runs."""
    children: dict[int, list[int]] = {}
    words: dict[int, str] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # the name stands in brackets and may hold anything
            name, _, rest = (place / "stat").read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            children.setdefault(int(parent), []).append(int(place.name))
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            words[int(place.name)] = command or f"[{name}] {state}"
    found: dict[int, str] = {}
    pending = list(children.get(of, ()))
    while pending:
        pid = pending.pop()
        found[pid] = words.get(pid, "(ended)")
        pending += children.get(pid, ())
    return found


def running_below(server: RunningServer) -> list[str]:
    """The processes that the server or its predecessors started and that still run."""
    return [f"process {pid}: {words}" for pid, words in descendants(server.nursery).items() if pid != server.pid]


def groups_of(pid: int) -> list[Path]:
    """The control groups of a process that are more than the machine's own."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    names = [line.rpartition(":")[2].rpartition("/")[2] for line in lines]
    ours = {name for name in names if "imagesmith-" in name or "buildah-" in name}
    return [place for name in ours for place in Path("/sys/fs/cgroup").glob(f"*/**/{name}")]


def leftovers(server: RunningServer) -> list[str]:
    """Everything that should not be there while no build runs, in words."""
    found = running_below(server)
    for who in ("self", "1"):
        lines = Path(f"/proc/{who}/mountinfo").read_text().splitlines()
        found += [f"mount of {who}: {line}" for line in lines if f"{server.data_dir}/" in line]
    found += [f"container {name}" for name in server.containers()]
    for place in (server.temporary, *(server.data_dir / folder for folder in ("containers/tmp", "oci/tmp"))):
        found += [f"temporary {path}" for path in place.iterdir()] if place.is_dir() else []
    found += [f"control group {path}" for path in leftover_groups(storage_key(server.data_dir / "containers"))]
    found += [f"namespace {path}" for path in Path("/run/netns").glob("*")]
    return found


def assert_clean(server: RunningServer) -> None:
    """Nothing is left, after a moment for the kernel to finish what was killed."""
    until = time.monotonic() + _SETTLE_SECONDS
    while found := leftovers(server):
        if time.monotonic() > until:
            raise AssertionError("left behind:\n" + "\n".join(found))
        time.sleep(0.05)


def processes_with(*words: str) -> list[str]:
    """Processes of the machine whose command line holds one of the words."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if any(word in line for word in words):
                found.append(f"{place.parent.name}: {line}")
    return found


def wait_until_gone(*words: str) -> list[str]:
    """What is left after the moment that the kernel needs."""
    for _ in range(100):
        if not processes_with(*words):
            return []
        time.sleep(0.05)
    return processes_with(*words)
