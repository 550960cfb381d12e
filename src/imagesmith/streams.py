"""The three streams of a program that runs: fed, read and bounded while it lasts.

The end of a program is the end of the *program*, not of its streams: a daemon that it left behind may hold the
pipes open for ever. What it had written by then is read to the last byte.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import selectors
import termios
import time
from collections.abc import Callable, Mapping
from typing import IO, Literal

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[Stream, bytes], None]

_POLL_SECONDS = 0.2
_CHUNK = 65536


class Tail:
    """The last `limit` bytes of a stream, in constant memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.dropped = 0

    def add(self, chunk: bytes) -> None:
        self._data += chunk
        if len(self._data) > 2 * self._limit:
            self._trim()

    def _trim(self) -> None:
        excess = len(self._data) - self._limit
        if excess > 0:
            del self._data[:excess]
            self.dropped += excess

    def value(self) -> bytes:
        self._trim()
        return bytes(self._data)


def pump(
    stdin: IO[bytes] | None,
    outputs: Mapping[Stream, IO[bytes]],
    ended: int,
    tails: Mapping[Stream, Tail],
    *,
    data: bytes | None,
    deadline: float | None,
    on_output: OnOutput | None,
    stop: Callable[[], bool],
) -> bool:
    """Move bytes until the descriptor `ended` becomes readable; True when the deadline came first.

    `data` goes into `stdin`, which is closed after it. Also returns when `stop` says so; it is asked at least five
    times a second.
    """
    pending = memoryview(data) if data is not None else None
    with selectors.DefaultSelector() as selector:
        for name, pipe in outputs.items():
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, name)
        if stdin is not None:
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE, "stdin")
        selector.register(ended, selectors.EVENT_READ, "end")
        while True:
            wait = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, deadline - time.monotonic())
            over = False
            for key, _ in selector.select(max(wait, 0)):
                if key.data == "stdin":
                    assert stdin is not None
                    pending = _feed(selector, stdin, pending)
                elif key.data == "end":
                    over = True
                else:
                    _drain(selector, key, tails, on_output, limit=1)
            if over:
                for key in list(selector.get_map().values()):
                    if key.data in tails:
                        _drain(selector, key, tails, on_output, limit=_waiting(key.fd))
                return False
            if deadline is not None and time.monotonic() >= deadline:
                return True
            if stop():
                return False


def _feed(selector: selectors.BaseSelector, stdin: IO[bytes], pending: memoryview | None) -> memoryview | None:
    try:
        written = os.write(stdin.fileno(), pending[:_CHUNK]) if pending else 0
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        pending = None
        written = 0
    rest = pending[written:] if pending is not None else None
    if not rest:
        selector.unregister(stdin)
        with contextlib.suppress(OSError):
            stdin.close()
        return None
    return rest


def _waiting(descriptor: int) -> int:
    """How many bytes a pipe holds now: what a daemon goes on to write is not waited for."""
    held = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, held)
    return held[0]


def _drain(
    selector: selectors.BaseSelector,
    key: selectors.SelectorKey,
    tails: Mapping[Stream, Tail],
    on_output: OnOutput | None,
    *,
    limit: int,
) -> None:
    """Read a chunk at a time until `limit` bytes came, or until there are none."""
    stream: Stream = "stdout" if key.data == "stdout" else "stderr"
    while limit > 0:
        try:
            chunk = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            selector.unregister(key.fileobj)
            return
        limit -= len(chunk)
        tails[stream].add(chunk)
        if on_output is not None:
            on_output(stream, chunk)


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Whether something can be read, or has ended, within some seconds; `select` knows no descriptor above 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))
