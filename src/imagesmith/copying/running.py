"""The running program of COPY and ADD: passes it descriptors of roots, and waits for its answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from imagesmith import processes
from imagesmith.instances.bubblewrap import memory_file
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import Sandbox
from imagesmith.instances.view import python_program
from imagesmith.processes import Cancellation
from imagesmith.streams import wait_readable

_ANSWER_BYTES: Final = 16 * 1024 * 1024
_WORDS: Final = 4096
_TICK_SECONDS: Final = 0.1
_END_SECONDS: Final = 30.0

RootHandle = Path | int
"""A root: its path on this machine, or an open descriptor."""


class CopyProgram:
    """Make one with `start`; end it with close(), after its sandbox."""

    def __init__(
        self, sandbox: Sandbox, process: subprocess.Popen[bytes], control: socket.socket, said: int
    ) -> None:
        self._sandbox = sandbox
        self._process = process
        self._control = control
        self._said = said

    @classmethod
    def start(cls, sandbox: Sandbox, program: str) -> CopyProgram:
        """Start the program at a path of the sandbox; does not wait for it. Raises OSError."""
        control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said = os.memfd_create("copies")
        with other:
            try:
                entry = sandbox.entry([*python_program(program), str(other.fileno())])
                process = processes.start(
                    entry.argv, env=entry.environment, pass_fds=[other.fileno()], stdout=said, stderr=said, cwd="/"
                )
            except BaseException:
                control.close()
                os.close(said)
                raise
        return cls(sandbox, process, control, said)

    def ask(
        self, request: bytes, source: RootHandle | None, target: RootHandle, *, seconds: float,
        cancellation: Cancellation | None,
    ) -> dict[str, Any] | None:  # fmt: skip
        """The answer to a request, or None when there is none in time. Raises InstanceError, Cancelled."""
        until = time.monotonic() + seconds
        answers, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as stack:
            stack.enter_context(answers)
            result = _kept(stack, os.memfd_create("result"))
            with other:
                roots = [_opened(stack, root) for root in (target, source) if root is not None]
                text = _kept(stack, memory_file("request", request))
                try:
                    socket.send_fds(self._control, [b"copy"], [text, result, other.fileno(), *roots])
                except OSError as error:
                    raise self._gone() from error
            while not wait_readable(answers.fileno(), _TICK_SECONDS):
                if cancellation is not None:
                    cancellation.check()
                if time.monotonic() > until:
                    return None
            if answers.recv(16) != b"done":
                raise self._gone()
            found: dict[str, Any] = json.loads(os.pread(result, _ANSWER_BYTES, 0))
            return found

    def close(self) -> None:
        """Release the program; the end of its sandbox has killed it."""
        self._control.close()
        if not processes.wait_ended(self._process, _END_SECONDS):
            self._process.kill()
            self._process.wait()
        os.close(self._said)

    def _gone(self) -> InstanceError:
        size = os.fstat(self._said).st_size
        said = os.pread(self._said, _WORDS, max(size - _WORDS, 0)).decode(errors="replace").strip()
        reason = self._sandbox.exit_message() or said or "its program was killed: perhaps it needed too much memory"
        return InstanceError(f"{self._sandbox.name} cannot copy files: {reason}")


def _kept(stack: ExitStack, descriptor: int) -> int:
    """A descriptor that the stack closes."""
    stack.callback(os.close, descriptor)
    return descriptor


def _opened(stack: ExitStack, root: RootHandle) -> int:
    if isinstance(root, int):
        return root
    try:
        return _kept(stack, os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise InstanceError(f"the root {root} cannot be opened: {error.strerror}") from error
