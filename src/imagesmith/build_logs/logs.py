"""Build logs: append-only text files, not rows: a row per line makes every long build a burden for the database.

    logs/<account>/<region>/<image slug>/<version>/<build>.log                                 everything, in order
    logs/<account>/<region>/<image slug>/<version>/<build>/<workflow execution>/<step>.log     one step
    2026-11-23T13:37:00.123Z build | Setting up nginx

One line per output line, written whole by one write call, so a follower never sees half a line. A full disk does
not fail a build here: lost lines are counted, and their number is logged as soon as possible.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from imagesmith.streams import LineJoiner, OnOutput, Stream
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import UNSUCCESSFUL_IMAGE, ImageStatus

_LINE_LIMIT = 16 * 1024
"""Bytes of one line; a longer one is cut into several."""

_LONGEST = 64 * 1024
"""Bytes of a line that a reader returns; longer lines, which other programs must have written, are cut."""

_FILE_LIMIT = 256 * 1024 * 1024
"""Bytes of one log; further lines are counted and dropped."""

_PIECE = 256 * 1024
"""Bytes that a reader reads at once."""

_LAST_WORDS = frozenset({ImageStatus.AVAILABLE, *UNSUCCESSFUL_IMAGE})

LAST_LINE_WAITS = 4
"""How often a follower waits for the last line of a build that ended: a full disk may have lost it."""


def log_path(logs: Path, image_arn: str) -> Path:
    """The log of an image build. The model's pattern excludes path separators in the parts of an ARN."""
    arn = Arn.parse(image_arn)
    return logs / arn.owner / arn.region / arn.slug / str(arn.version) / f"{arn.build}.log"


def step_log_path(logs: Path, image_arn: str, execution: str, step: str) -> Path:
    """The log of one step; the grammar excludes path separators in the name of a step."""
    return log_path(logs, image_arn).with_suffix("") / execution / f"{step}.log"


def logs_below(folder: Path) -> list[Path]:
    """Every log in a folder, in order; files that are removed meanwhile are skipped, where rglob() would fail."""
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return sorted(path for path in files if path.suffix == ".log")


class BuildLog:
    """Writes one build's log; several stages append one after another. `copy` gets every line as well."""

    def __init__(self, path: Path, clock: Callable[[], datetime], *, copy: BuildLog | None = None) -> None:
        self._path = path
        self._clock = clock
        self._copy = copy
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
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
        """A receiver of raw output, and a function that writes the unfinished last line."""
        joiner = LineJoiner(_LINE_LIMIT)

        def receive(stream: Stream, chunk: bytes) -> None:
            for line in joiner.add(stream, chunk):
                # a progress bar redraws its line with carriage returns: the last drawing is kept
                self.line(stage, line.rstrip(b"\r").split(b"\r")[-1].decode(errors="replace"))

        def flush() -> None:
            for _, rest in joiner.flush():
                self.line(stage, rest.decode(errors="replace"))

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
            # starts with a line break: the last written line may have been cut
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
    """The parts of a log line."""

    time: str
    stage: str
    text: str


def parse_line(line: str) -> LogLine:
    """Split a line into its parts; a line of another format is all text."""
    stamp, _, rest = line.partition(" ")
    stage, mark, text = rest.partition(" | ")
    return LogLine(stamp, stage, text) if mark else LogLine("", "", line)


class LogReader:
    """Reads the whole lines of a log from a position; the log may still grow, or not exist yet.

    `position` is the byte after the last line read: a reader that starts there continues with the next line.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._path = path
        self.position = position
        self._looked_to = 0
        """How far a line that is too long was searched for its end."""

    def has_more(self) -> bool:
        """Whether the log has grown since the last read."""
        try:
            return self._path.stat().st_size > self.position
        except FileNotFoundError:
            return False

    def read(self) -> list[tuple[int, str]]:
        """The next lines, each with the position after it; at most about _PIECE bytes."""
        lines: list[tuple[int, str]] = []
        try:
            with self._path.open("rb") as file:
                begin = self.position
                file.seek(begin)
                while self.position < begin + _PIECE:
                    raw = file.readline(_LONGEST + 1)
                    if raw.endswith(b"\n"):
                        self.position += len(raw)
                        lines.append((self.position, raw.decode(errors="replace").rstrip("\n")))
                        continue
                    left_out = self._skip_line(file) - _LONGEST if len(raw) > _LONGEST else 0
                    if left_out <= 0:
                        break
                    shown = raw[:_LONGEST].decode(errors="replace")
                    lines.append((self.position, f"{shown} ({left_out} more bytes of this line are not shown)"))
                    # skipping a long line is enough work for one call
                    break
        except FileNotFoundError:
            pass
        return lines

    def _skip_line(self, file: BinaryIO) -> int:
        """Skip a line that is too long, in constant memory; returns its bytes, or 0 while it has no end."""
        file.seek(max(self._looked_to, self.position))
        while chunk := file.read(_PIECE):
            end = chunk.find(b"\n")
            if end >= 0:
                length = file.tell() - len(chunk) + end - self.position
                self.position += length + 1
                return length
        self._looked_to = file.tell()
        return 0

    def starts_a_line(self) -> bool:
        """Whether a line of the existing log starts at the position."""
        if self.position == 0:
            return True
        try:
            with self._path.open("rb") as file:
                file.seek(self.position - 1)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return False


def is_last(line: str) -> bool:
    """Whether a line is the last of a build's log; it is written just after the image has ended."""
    parts = parse_line(line)
    return parts.stage == "end" and parts.text.split(":")[0] in _LAST_WORDS


def follow(
    path: Path, is_over: Callable[[], bool], wait: Callable[[], None], *, ends: bool = False
) -> Iterator[str]:
    """The lines of a log as they are written, until the build or step is over and everything was read.

    `ends`: the log has a last line (is_last()), for which this waits a little longer.
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
