"""Build logs: append-only text files, never rows (pitfalls: logs in rows froze other services).

    logs/<account>/<region>/<image slug>/<version>/<build>.log                                 everything, in order
    logs/<account>/<region>/<image slug>/<version>/<build>/<workflow execution>/<step>.log     one step
    2026-11-23T13:37:00.123Z build | Setting up nginx

One line per output line, written whole by one write call, so a follower never sees half a line. A full disk does
not fail a build here: lines that cannot be written are counted, and the log says so as soon as it can.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imagesmith.processes import OnOutput, Stream
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant

_LINE_LIMIT = 16 * 1024
"""Bytes of one line; a longer one is cut into several."""

_FILE_LIMIT = 256 * 1024 * 1024
"""Bytes of one log; what comes after is counted, not kept."""

_PIECE = 256 * 1024
"""Bytes that a reader takes at once."""

_LAST_WORDS = frozenset({"AVAILABLE", "FAILED", "CANCELLED"})

LAST_LINE_WAITS = 4
"""How often a follower waits for the last line of a build that is over: a full disk may have swallowed it."""


def log_path(logs: Path, image_arn: str) -> Path:
    """Where the log of an image build is. The ARN's parts hold no separators, the model's pattern sees to it."""
    arn = Arn.parse(image_arn)
    return logs / arn.owner / arn.region / arn.slug / str(arn.version) / f"{arn.build}.log"


def step_log_path(logs: Path, image_arn: str, execution: str, step: str) -> Path:
    """Where the lines of one step are; a step's name holds no separators, the grammar sees to it."""
    return log_path(logs, image_arn).with_suffix("") / execution / f"{step}.log"


def logs_below(folder: Path) -> list[Path]:
    """Every log in a folder, in order; what others remove meanwhile is passed over, where rglob() would fail."""
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return sorted(path for path in files if path.suffix == ".log")


class BuildLog:
    """Writes one build's log; several stages append one after another. `copy` gets every line as well."""

    def __init__(self, path: Path, clock: Callable[[], datetime], *, copy: BuildLog | None = None) -> None:
        self._path = path
        self._clock = clock
        self._copy = copy
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        self._full = False
        self._lost = 0

    def line(self, stage: str, text: str) -> None:
        """Append one or more lines under a stage's name."""
        stamp = iso_instant(self._clock())
        for line in text.splitlines() or [""]:
            self._append(f"{stamp} {stage} | {line}\n".encode(errors="replace"))
        if self._copy is not None:
            self._copy.line(stage, text)

    def sink(self, stage: str) -> tuple[OnOutput, Callable[[], None]]:
        """A receiver of raw output, and the call that writes what is left of the last line."""
        pending: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

        def receive(stream: Stream, chunk: bytes) -> None:
            *lines, rest = (pending[stream] + chunk).split(b"\n")
            if len(rest) > _LINE_LIMIT:
                lines.append(rest)
                rest = b""
            pending[stream] = rest
            for line in lines:
                # a progress bar redraws its line with carriage returns: the last drawing is the line
                self.line(stage, line.rstrip(b"\r").split(b"\r")[-1].decode(errors="replace"))

        def flush() -> None:
            for stream, rest in pending.items():
                if rest:
                    self.line(stage, rest.decode(errors="replace"))
                pending[stream] = b""

        return receive, flush

    def close(self) -> None:
        os.close(self._descriptor)
        if self._copy is not None:
            self._copy.close()

    def _append(self, data: bytes) -> None:
        if self._full:
            return
        if self._size + len(data) > _FILE_LIMIT:
            self._full = True
            data = b"(the log reached its limit; later lines are not kept)\n"
        if self._lost:
            # begins with a line break: the last line that was written may have been cut
            data = f"\n({self._lost} lines could not be written: the disk was full)\n".encode() + data
        data = data[: _LINE_LIMIT * 2]
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            written = 0
        self._size += written
        self._lost = 0 if written == len(data) else self._lost + 1


@dataclass(frozen=True)
class LogLine:
    """A line of a log in its parts."""

    time: str
    stage: str
    text: str


def parse_line(line: str) -> LogLine:
    """Take a line apart; one that is not of ours is all text."""
    stamp, _, rest = line.partition(" ")
    stage, mark, text = rest.partition(" | ")
    return LogLine(stamp, stage, text) if mark else LogLine("", "", line)


class LogReader:
    """The whole lines of a log from a place on; the log may still grow, or not be there yet.

    `position` is the byte after the last line that was read: a reader that begins there goes on with the next line.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._path = path
        self.position = position

    def has_more(self) -> bool:
        """Whether the log has grown since."""
        try:
            return self._path.stat().st_size > self.position
        except FileNotFoundError:
            return False

    def read(self) -> list[tuple[int, str]]:
        """The next lines, each with the position after it; at most about _PIECE bytes of them."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.position)
                found = file.readlines(_PIECE)
        except FileNotFoundError:
            return []
        lines: list[tuple[int, str]] = []
        for raw in found:
            if not raw.endswith(b"\n"):
                break
            self.position += len(raw)
            lines.append((self.position, raw.decode(errors="replace").rstrip("\n")))
        return lines

    def starts_a_line(self) -> bool:
        """Whether the position is the beginning of a line of what is there."""
        if self.position == 0:
            return True
        try:
            with self._path.open("rb") as file:
                file.seek(self.position - 1)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return False


def is_last(line: str) -> bool:
    """Whether a line of a build's log is the one that ends it; it is written just after the image has ended."""
    parts = parse_line(line)
    return parts.stage == "end" and parts.text.split(":")[0] in _LAST_WORDS


def follow(
    path: Path, is_over: Callable[[], bool], wait: Callable[[], None], *, ends: bool = False
) -> Iterator[str]:
    """The lines of a log as they are written, until what it tells of is over and everything was read.

    `ends`: the log has a line that ends it, which is waited for a little longer (is_last()).
    """
    reader = LogReader(path)
    last = False
    patience = LAST_LINE_WAITS
    while True:
        ended = is_over()
        while lines := reader.read():
            for _, line in lines:
                last = is_last(line)
                yield line
        if ended:
            if last or not ends or not patience:
                return
            patience -= 1
        wait()
