"""Commands of imagesmith in processes of their own, which the fork server of this test process starts.

run("image", "list", ...)    to its end, as subprocess.run
Nursery                      servers, and what they leave behind
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Literal

from imagesmith.streams import wait_readable
from testing.fork_server import Order

COMMAND = str(Path(sys.executable).parent / "imagesmith")
"""The installed program."""


class Forked:
    """A process that the fork server started."""

    def __init__(self, pid: int, reply: socket.socket) -> None:
        self.pid = pid
        self._reply = reply

    def wait(self, seconds: float) -> int:
        """Its exit status, negative for a signal; call it once.

        Kills it and raises TimeoutError when it takes longer.
        """
        with self._reply:
            in_time = wait_readable(self._reply.fileno(), seconds)
            if not in_time:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            status = int(self._reply.recv(32))
        if not in_time:
            raise TimeoutError(f"process {self.pid} did not end within {seconds:g} s")
        return status


def order(
    *argv: str, role: Literal["command", "nursery"] = "command", env: Mapping[str, str] | None = None,
    new_session: bool = False,
) -> Order:  # fmt: skip
    """A process with the folder and umask of this one, and its environment unless there is another."""
    # os.umask() changes what it returns, for all threads
    status = Path("/proc/self/status").read_text()
    umask = int(status.partition("\nUmask:")[2].split()[0], 8)
    return Order(
        role=role, argv=(COMMAND, *argv), env=dict(os.environ if env is None else env), folder=str(Path.cwd()),
        umask=umask, new_session=new_session,
    )  # fmt: skip


def start(order: Order, files: Sequence[int]) -> Forked:
    """Fork a process with these files as standard input, output and errors."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        socket.send_fds(_fork_server(), [order.to_json()], [*files, there.fileno()])
    pid = here.recv(32)
    assert pid, "the fork server has ended"
    return Forked(int(pid), here)


def run(
    *words: str, env: Mapping[str, str] | None = None, input: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command of imagesmith to its end. Raises TimeoutError."""
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        os.pwrite(files[0], input.encode(), 0)
        status = start(order(*words, env=env), files).wait(timeout)
        said = [os.pread(file, os.fstat(file).st_size, 0).decode() for file in files[1:]]
    finally:
        for file in files:
            os.close(file)
    return subprocess.CompletedProcess([COMMAND, *words], status, *said)


class Nursery:
    """A process that starts servers and adopts what they leave behind (nursery.py)."""

    def __init__(self) -> None:
        requests, self._requests = os.pipe()
        self._pids, pids = os.pipe()
        try:
            self._process = start(order(role="nursery"), [requests, pids, 2])
        finally:
            for end in (requests, pids):
                os.close(end)
        self.pid = self._process.pid

    def start(self, server: Order, errors: Path) -> int:
        """The process id of a new server, whose errors are appended to a file."""
        request = {"order": asdict(server), "stderr": str(errors)}
        os.write(self._requests, json.dumps(request).encode() + b"\n")
        return int(os.read(self._pids, 32))

    def close(self) -> None:
        """Kill the servers that still run."""
        for end in (self._requests, self._pids):
            os.close(end)
        self._process.wait(30)


@cache
def _fork_server() -> socket.socket:
    """The channel of the fork server, which ends with this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tests = str(Path(__file__).parents[1])
    # -P: without the current folder in sys.path; -c: with a __main__ of no package; as installed programs
    program = "from testing.fork_server import main; main()"
    argv = [sys.executable, "-P", "-c", program, str(there.fileno())]
    with there:
        process = subprocess.Popen(
            argv, env={**os.environ, "PYTHONPATH": tests}, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL
        )
    atexit.register(_end, here, process)
    return here


def _end(channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
    channel.close()
    process.wait()
