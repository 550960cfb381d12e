"""Lines of a program, from the pieces in which its output arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from imagesmith.processes import Stream

_MAX_LINE: Final = 4096


class LineSplitter:
    """Joins both output streams of a program into whole lines, each cut at a bounded length."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def add(self, stream: Stream, chunk: bytes) -> None:
        *lines, rest = (self._rest[stream] + chunk).split(b"\n")
        self._rest[stream] = rest[:_MAX_LINE]
        for line in lines:
            self._send(line)

    def end(self) -> None:
        for line in self._rest.values():
            self._send(line)

    def _send(self, line: bytes) -> None:
        text = line[:_MAX_LINE].decode(errors="replace").rstrip()
        if text:
            self._on_line(text)
