"""Processes of sandboxes whose server has ended: marked when they start, found and killed by the next server start.

    IMAGESMITH_OWNER=<process namespace>:<process id>:<start time>       in the environment of the tools

A sandbox ends with its server by itself (sandbox.py). This module covers sandboxes that could not: stopped, or half
killed. Only the tools' environment has the mark, never that of a command; a process that forges it only ends
itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_NAME = "IMAGESMITH_OWNER"


def tool_environment() -> Mapping[str, str]:
    """The whole environment of a tool that holds a sandbox, with the mark of its owner."""
    return {"PATH": os.defpath, _NAME: f"{_namespace()}:{os.getpid()}:{_started(os.getpid())}"}


def end_orphans() -> tuple[int, ...]:
    """Kill the processes of sandboxes whose owner has ended, also those of other servers on this machine."""
    ended = []
    for pid in _processes():
        owner = _owner(pid)
        if owner is not None and _started(owner[0]) != owner[1]:
            # the end of the first process of a namespace ends the others
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                ended.append(pid)
    return tuple(ended)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names only


def _owner(pid: int) -> tuple[int, str] | None:
    """Process id and start time of a process's owner; None without an owner, or if it is invisible from here."""
    with contextlib.suppress(OSError, ValueError):
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, mark = variable.decode(errors="replace").partition("=")
            if name == _NAME:
                namespace, owner, started = mark.split(":")
                return (int(owner), started) if namespace == _namespace() else None
    return None


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty when it has ended."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # a zombie holds no resources
        return "" if fields[0] in "ZX" else fields[19]
    return ""
