"""The output of stages that are carried out at once: whole lines, each with the number of its stage."""

from __future__ import annotations

import threading
from typing import Final

from imagesmith.streams import OnOutput, Stream

_LONGEST_LINE: Final = 64 * 1024


class StageOutput:
    """Passes on the lines of one stage; flush() passes the last one, which may have no end."""

    def __init__(self, receive: OnOutput, prefix: str, lock: threading.Lock) -> None:
        """`lock` is that of all stages: their lines do not mix."""
        self._receive = receive
        self._prefix = prefix.encode()
        self._lock = lock
        self._pending: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def __call__(self, stream: Stream, chunk: bytes) -> None:
        *lines, rest = (self._pending[stream] + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._pending[stream] = rest
        if lines:
            self._pass(stream, lines)

    def flush(self) -> None:
        for stream, rest in self._pending.items():
            if rest:
                self._pass(stream, [rest])
            self._pending[stream] = b""

    def _pass(self, stream: Stream, lines: list[bytes]) -> None:
        text = b"".join(self._prefix + line + b"\n" for line in lines)
        with self._lock:
            self._receive(stream, text)
