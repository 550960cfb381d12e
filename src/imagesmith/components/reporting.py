"""Reporters of a running execution: console lines in published form, step by step (spec/components.md 12.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from imagesmith.components.actions.base import text_of
from imagesmith.components.results import StepResult, printable
from imagesmith.components.secrets import Secrets
from imagesmith.processes import Stream

_MAX_LINE: Final = 64 * 1024


@dataclass(frozen=True)
class ReportedStep:
    """A step and its document."""

    document_index: int
    label: str
    phase: str
    name: str
    action: str


class Reporter(Protocol):
    """Receives the events of a run. All texts are masked and printable."""

    def line(self, text: str) -> None:
        """One line of console.log, without its line break."""
        ...

    def output(self, stream: Stream, text: str) -> None:
        """One line that a step printed."""
        ...

    def step_started(self, step: ReportedStep) -> None: ...

    def step_finished(self, step: ReportedStep, result: StepResult) -> None: ...


class NullReporter:
    """Ignores all events."""

    def line(self, text: str) -> None:
        pass

    def output(self, stream: Stream, text: str) -> None:
        pass

    def step_started(self, step: ReportedStep) -> None:
        pass

    def step_finished(self, step: ReportedStep, result: StepResult) -> None:
        pass


class LineReporter(NullReporter):
    """Writes console.log: passes every line, output included, to one function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def line(self, text: str) -> None:
        self._write(text)

    def output(self, stream: Stream, text: str) -> None:
        self._write(f"CmdExecution: {stream.capitalize()}: {text}")


class OutputLines:
    """Splits the output of a step into masked lines as it arrives, in constant memory.

    An overlong line is passed on in parts; the end of a part is held back while a secret may begin in it, so that
    no split reveals a secret.
    """

    def __init__(self, reporter: Reporter, secrets: Secrets) -> None:
        self._reporter = reporter
        self._secrets = secrets
        self._rest: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def feed(self, stream: Stream, chunk: bytes) -> None:
        *lines, rest = (self._rest[stream] + chunk).split(b"\n")
        for line in lines:
            self._emit(stream, line)
        if len(rest) > _MAX_LINE + self._secrets.longest:
            masked = self._secrets.mask(text_of(rest)).encode("utf-8", "surrogateescape")
            keep = min(self._secrets.longest, len(masked))
            self._emit(stream, masked[: len(masked) - keep])
            rest = masked[len(masked) - keep :]
        self._rest[stream] = rest

    def flush(self) -> None:
        """Pass on unfinished lines."""
        for stream in ("stdout", "stderr"):
            rest = self._rest[stream]
            self._rest[stream] = b""
            if rest:
                self._emit(stream, rest)

    def _emit(self, stream: Stream, line: bytes) -> None:
        if self._secrets.longest == 0:
            self._reporter.output(stream, line.rstrip(b"\r").decode("utf-8", "backslashreplace"))
        else:
            self._reporter.output(stream, printable(self._secrets.mask(text_of(line)).rstrip("\r")))
