"""Starts the programs named on standard input and adopts what they leave behind: `python nursery.py`.

    {"argv": [...], "env": {...}, "stderr": "path"}  ->  its process id
    end of input                                     ->  kills what it started, and ends

Signals that end the tests do not end it: the end of input does, so that it always takes down what it started.
Every orphan below it becomes its child (it is a subreaper) and is reaped when it ends, as by an init. So what
is still below it, other than what it was asked to start, was left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    started: set[int] = set()
    text = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.01)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                started.discard(ended)
        if not readable:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            pid = start(json.loads(line))
            started.add(pid)
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
    for pid in started:
        os.kill(pid, signal.SIGKILL)


def start(order: dict[str, object]) -> int:
    argv, environment = order["argv"], order["env"]
    assert isinstance(argv, list) and isinstance(environment, dict)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(order["stderr"]), append, 0o600),
    ]
    return os.posix_spawn(argv[0], argv, environment, file_actions=files, setsid=True, setsigdef=_ENDINGS)


if __name__ == "__main__":
    main()
