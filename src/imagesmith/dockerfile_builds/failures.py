"""Why the build of a Dockerfile failed, in words that name the instruction."""

from __future__ import annotations

import errno
import os
from typing import Final

from imagesmith.dockerfiles.placeholders import shown
from imagesmith.dockerfiles.stages import ResolvedInstruction
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Completed

_NO_PROCESS: Final = os.strerror(errno.EAGAIN).lower()
_TAIL_LINES: Final = 12
_SHOWN: Final = 200


class DockerfileFailed(InstanceError):
    """An instruction failed, or the Dockerfile cannot be built; the text says which, where and why."""


def label_of(resolved: ResolvedInstruction, *, is_trigger: bool) -> str:
    """`the Dockerfile instruction 'RUN x' in line 3`."""
    item = resolved.instruction
    text = " ".join(shown(item.source.line.text).split())[:_SHOWN]
    if is_trigger:
        return f"the trigger '{text}' of an image of the Dockerfile"
    return f"the Dockerfile instruction '{text}' in line {item.position.line}"


def explain_run(done: Completed, timeout: float, limits: ResourceLimits, *, memory_kills: int = 0) -> str:
    """Why a command counts as failed, with its last output; empty when it succeeded.

    `memory_kills`: the number of its processes that the memory limit killed.
    """
    if done.returncode == 0 and not done.timed_out:
        return ""
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    last = "\n".join([line for line in output.splitlines() if line.strip()][-_TAIL_LINES:])
    ending = (
        f"was stopped after {timeout:.0f} s" if done.timed_out else f"failed with exit status {done.returncode}"
    )
    bound = f"\nThe limit of {limits.processes} processes was reached." if _NO_PROCESS in output.lower() else ""
    if memory_kills:
        bound += f"\nThe limit of {limits.memory_mb} MB of memory was reached."
    return f"{ending}{bound}" + (f"\nLast output:\n{last}" if last else "")
