"""Feeds, reads and bounds the three streams of a running program.

The end of a program is the end of the *program*, not of its streams: a daemon that it left behind may hold the
pipes open for ever. Output written before its end is read to the last byte, and a process that it left behind
(a filter of its output, as in `exec > >(sed ...)`) is read while it keeps writing, within bounds.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import selectors
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Literal

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[Stream, bytes], None]

_POLL_SECONDS = 0.2
QUIET_SECONDS = 1.0
"""After the end of the program: reading stops when no output arrives for this long. A filter needs a moment for its
last lines, on a busy machine a longer one."""
LATE_SECONDS = 3.0
"""After the end of the program: output is read for at most this long."""
_CHUNK = 65536


class Tail:
    """The last `limit` bytes of a stream, in constant memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.dropped = 0
        self.cut = False
        """A process that the program left behind may still write: its output is no longer read."""

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


class LineJoiner:
    """Joins the chunks of a program's output to whole lines, without their ends."""

    def __init__(self, longest: int) -> None:
        """`longest`: bytes after which a line is passed on although it has no end yet."""
        self._longest = longest
        self._pending: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def add(self, stream: Stream, chunk: bytes) -> list[bytes]:
        """The lines that a chunk completes."""
        *lines, rest = (self._pending[stream] + chunk).split(b"\n")
        if len(rest) > self._longest:
            lines.append(rest)
            rest = b""
        self._pending[stream] = rest
        return lines

    def flush(self) -> list[tuple[Stream, bytes]]:
        """The last line of each stream that has no end."""
        rests = [(stream, rest) for stream, rest in self._pending.items() if rest]
        self._pending = {"stdout": b"", "stderr": b""}
        return rests


def pump(
    stdin: IO[bytes] | None,
    outputs: Mapping[Stream, IO[bytes]],
    ended: int,
    tails: Mapping[Stream, Tail],
    *,
    data: bytes | None,
    timeout: float | None,
    on_output: OnOutput | None,
    stop: Callable[[], bool],
    now: Callable[[], float] = time.monotonic,
) -> bool:
    """Move bytes until the descriptor `ended` becomes readable; True when `timeout` seconds passed first.

    `data` goes into `stdin`, which is closed after it. Also returns when `stop` returns true; it is called at
    least five times a second.
    """
    deadline = None if timeout is None else now() + timeout
    pending = memoryview(data) if data is not None else None
    with selectors.DefaultSelector() as selector:
        _register(selector, stdin, outputs, ended)
        while True:
            wait = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, deadline - now())
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
                selector.unregister(ended)
                _read_late(selector, tails, on_output, stop, now)
                return False
            if deadline is not None and now() >= deadline:
                return True
            if stop():
                return False


def _register(
    selector: selectors.BaseSelector, stdin: IO[bytes] | None, outputs: Mapping[Stream, IO[bytes]], ended: int
) -> None:
    for name, pipe in outputs.items():
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ, name)
    if stdin is not None:
        os.set_blocking(stdin.fileno(), False)
        selector.register(stdin, selectors.EVENT_WRITE, "stdin")
    selector.register(ended, selectors.EVENT_READ, "end")


def _read_late(
    selector: selectors.BaseSelector,
    tails: Mapping[Stream, Tail],
    on_output: OnOutput | None,
    stop: Callable[[], bool],
    now: Callable[[], float],
) -> None:
    """Read output from before the end of the program, and output that directly follows it; see the module text."""

    def outputs() -> list[selectors.SelectorKey]:
        return [key for key in selector.get_map().values() if key.data in tails]

    for key in list(selector.get_map().values()):
        if key.data not in tails:
            selector.unregister(key.fileobj)
    for key in outputs():
        _drain(selector, key, tails, on_output, limit=_waiting(key.fd))
    until = now() + LATE_SECONDS
    while outputs() and not stop():
        found = selector.select(min(QUIET_SECONDS, max(until - now(), 0)))
        for key, _ in found:
            _drain(selector, key, tails, on_output, limit=1)
        if not found or now() >= until:
            break
    for key in outputs():
        tails[key.data].cut = True


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
    """How many bytes a pipe holds now: later output of a daemon is not waited for."""
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
    """Read chunks until `limit` bytes have arrived, or until the stream is empty."""
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
    """Whether a descriptor becomes readable, or ends, within some seconds; `select` supports none above 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))


def wait_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of a program and reap it; False if it still runs after some seconds.

    `Popen.wait` with a time limit looks again after up to 50 ms, this returns at once. Another thread may reap it.
    """
    with contextlib.suppress(ProcessLookupError), opened_end(process.pid) as ended:
        # it was not reaped when the descriptor was opened, so its id was not given to another program
        if process.poll() is None and not wait_readable(ended, seconds):
            return False
    process.wait()
    return True


@contextlib.contextmanager
def opened_end(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when a process ends. Raises ProcessLookupError."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
