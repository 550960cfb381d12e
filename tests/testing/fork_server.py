"""Starts commands of imagesmith as forks of one process that has loaded its modules.

    tests --argv, environment, files--> fork server --fork--> a command: what its entry point does
                                            |
                                            +--fork--> a nursery (nursery.py) --fork--> a server

An interpreter that loads the modules of a server takes a second of a processor, and the suite starts many hundred
commands. A fork shares no more than that: its arguments, environment, folder, files, umask, session and signals are
those of the request, and it ends as any process of Python. Tests of starts and of the demo start the installed
program.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

FILES = 3
"""Standard input, output and errors; they come with a request, and then the socket for the replies."""
LONGEST = 200_000
"""Bytes of a request."""
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SET_NAME = 15  # PR_SET_NAME

Job = Callable[[], None]
"""What a forked process does; it runs at the bottom of the stack, so that nothing of its parent is left to do."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A process to fork."""

    role: Literal["command", "nursery"]
    argv: tuple[str, ...]
    env: dict[str, str]
    folder: str
    umask: int
    new_session: bool = False

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Order:
        stored = json.loads(data)
        return cls(**{**stored, "argv": tuple(stored["argv"])})


def load() -> None:
    """Load what the commands load, in this process, which has one thread and keeps it."""
    import imagesmith.cli.build_process
    import imagesmith.cli.image
    import imagesmith.cli.serve
    import imagesmith.cli.server
    import imagesmith.cli.worker
    import imagesmith.wire.server  # noqa: F401
    from imagesmith.cli import startup

    startup.load_documents()
    startup.load_builds()
    threads = len([*Path("/proc/self/task").iterdir()])
    assert threads == 1, "a fork would lose the others"


def become(order: Order, files: Sequence[int]) -> None:
    """Be the process that was ordered, up to the first line of its program."""
    if order.new_session:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for ending in _ENDINGS:
        signal.signal(ending, signal.default_int_handler if ending is signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(order.env)
    time.tzset()
    os.chdir(order.folder)
    os.umask(order.umask)
    sys.argv = [*order.argv]


def run_command(order: Order, files: Sequence[int]) -> None:
    """What the program `imagesmith` does."""
    from imagesmith.cli.main import main

    ctypes.CDLL(None).prctl(_SET_NAME, b"imagesmith", 0, 0, 0)
    become(order, files)
    main()


class ChildEnds:
    """Readable when a child of this process has ended; its signal wakes a select()."""

    def __init__(self) -> None:
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._woken.fileno()

    def reap(self) -> Iterator[tuple[int, int]]:
        """The children that have ended, with their exit statuses."""
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                yield ended[0], os.waitstatus_to_exitcode(ended[1])

    def close(self) -> None:
        """In a fork, whose children are its own."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._woken.close()
        self._wake.close()


def serve(channel: socket.socket) -> Job | None:
    """Fork what is asked for on the channel until it ends; returns, in each fork, what that has to do."""
    waiting: dict[int, socket.socket] = {}
    ends = ChildEnds()
    watched: list[socket.socket | ChildEnds] = [channel, ends]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if ends in readable:
            for pid, status in ends.reap():
                with waiting.pop(pid) as reply:
                    _tell(reply, status)
        if channel not in readable:
            continue
        request, descriptors, _, _ = socket.recv_fds(channel, LONGEST, FILES + 1)
        if not request:
            return None
        *files, last = descriptors
        reply = socket.socket(fileno=last)
        pid = os.fork()
        if pid == 0:
            ends.close()
            for opened in (channel, reply, *waiting.values()):
                opened.close()
            return partial(_begin, Order.from_json(request), files)
        for file in files:
            os.close(file)
        waiting[pid] = reply
        _tell(reply, pid)


def _begin(order: Order, files: Sequence[int]) -> None:
    if order.role == "command":
        run_command(order, files)
        return
    from testing.nursery import tend

    become(order, files)
    job = tend()
    if job is not None:
        job()


def _tell(reply: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        reply.send(str(number).encode())


def main() -> None:
    # signals that end the tests do not end it: the end of the channel does, after the fixtures have used it
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    load()
    gc.freeze()  # a collection in a fork would copy every page of these objects
    job = serve(channel)
    if job is not None:
        job()
