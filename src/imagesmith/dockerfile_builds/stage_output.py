"""The output of stages that are carried out at once: whole lines, each with the number of its stage."""

from __future__ import annotations

import threading
from typing import Final

from imagesmith.streams import LineJoiner, OnOutput, Stream

_LONGEST_LINE: Final = 64 * 1024


class StageOutput:
    """Passes on the lines of one stage; flush() passes the last one, which may have no end."""

    def __init__(self, receive: OnOutput, prefix: str, lock: threading.Lock) -> None:
        """`lock` is that of all stages: their lines do not mix."""
        self._receive = receive
        self._prefix = prefix.encode()
        self._lock = lock
        self._joiner = LineJoiner(_LONGEST_LINE)

    def __call__(self, stream: Stream, chunk: bytes) -> None:
        lines = self._joiner.add(stream, chunk)
        if lines:
            self._pass(stream, lines)

    def flush(self) -> None:
        for stream, rest in self._joiner.flush():
            self._pass(stream, [rest])

    def _pass(self, stream: Stream, lines: list[bytes]) -> None:
        text = b"".join(self._prefix + line + b"\n" for line in lines)
        with self._lock:
            self._receive(stream, text)
