"""What a server may not leave behind: processes, mounts, containers, temporary files, control groups."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

from imagesmith.artifacts.storage import runroot_for
from imagesmith.instances.limits import leftover_groups
from pipeline.pipeline_support import RunningServer

_PR_SET_CHILD_SUBREAPER = 36
_SETTLE_SECONDS = 5.0


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Processes that lose their parent become children of this one, so that descendants() finds them."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants(of: int | None = None) -> dict[int, str]:
    """Every process below one (this one when not given) and what it runs."""
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
    pending = list(children.get(os.getpid() if of is None else of, ()))
    while pending:
        pid = pending.pop()
        found[pid] = words[pid]
        pending += children.get(pid, ())
    return found


def leftovers(server: RunningServer, before: set[int]) -> list[str]:
    """Everything that should not be there, in words; `before` holds processes that may stay."""
    found = [f"process {pid}: {words}" for pid, words in descendants().items() if pid not in before]
    for who in ("self", "1"):
        lines = Path(f"/proc/{who}/mountinfo").read_text().splitlines()
        found += [f"mount of {who}: {line}" for line in lines if f"{server.data_dir}/" in line]
    found += [f"container {name}" for name in server.containers()]
    found += [f"temporary {path}" for path in server.temporary.iterdir()]
    for folder in ("containers/tmp", "oci/tmp", "tmp"):
        place = server.data_dir / folder
        found += [f"temporary {path}" for path in place.iterdir()] if place.is_dir() else []
    found += [f"control group {path}" for path in leftover_groups(runroot_for(server.data_dir).name)]
    found += [f"namespace {path}" for path in Path("/run/netns").glob("*")]
    return found


def reap(before: set[int]) -> None:
    """Collect orphans that ended: nobody else waits for them."""
    for pid in set(descendants()) - before:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(pid, os.WNOHANG)


def assert_clean(server: RunningServer, before: set[int]) -> None:
    """Nothing is left, after a moment for the kernel to finish what was killed."""
    until = time.monotonic() + _SETTLE_SECONDS
    while found := leftovers(server, before):
        if time.monotonic() > until:
            raise AssertionError("left behind:\n" + "\n".join(found))
        reap(before)
        time.sleep(0.05)
