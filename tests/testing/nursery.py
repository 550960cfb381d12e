"""Starts the servers named on standard input and adopts what they leave behind; a fork of the fork server.

    {"order": {...}, "stderr": "path"}  ->  its process id
    end of input                        ->  kills what it started, and ends

Signals that end the tests do not end it: the end of input does, so that it always takes down what it started.
Every orphan below it becomes its child (it is a subreaper) and is reaped when it ends, as by an init. So what
is still below it, other than what it was asked to start, was left behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from functools import partial
from typing import Any

from testing.fork_server import ChildEnds, Job, Order, run_command

_PR_SET_CHILD_SUBREAPER = 36
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def tend() -> Job | None:
    """Start and adopt until the end of input; returns, in each server, what that has to do."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    started: set[int] = set()
    text = b""
    ends = ChildEnds()
    while True:
        readable, _, _ = select.select([sys.stdin, ends], [], [])
        if ends in readable:
            started.difference_update([pid for pid, _ in ends.reap()])
        if sys.stdin not in readable:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                ends.close()
                return partial(_be_server, json.loads(line))
            started.add(pid)
            os.write(1, f"{pid}\n".encode())
    for pid in started:
        os.kill(pid, signal.SIGKILL)
    return None


def _be_server(request: dict[str, Any]) -> None:
    files = [
        os.open(os.devnull, os.O_RDONLY),
        os.open(os.devnull, os.O_WRONLY),
        os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]
    run_command(Order.from_json(json.dumps(request["order"]).encode()), files)
