"""The output of `imagesmith component`: problems with their lines, ended steps, failures with their cause.

Texts of documents and scripts are escaped in pipes, too: the output is a view of them, and the log keeps the bytes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagesmith.cli.screen import echo, redraw, styled
from imagesmith.components.reporting import ReportedStep, Reporter
from imagesmith.components.results import ExecutionResult, StepResult
from imagesmith.processes import Stream
from imagesmith.values.diagnostics import Problem
from imagesmith.values.visible import visible

_LAST_LINES = 12
_MARKS = {
    "success": ("ok", "green"),
    "failed": ("FAILED", "red"),
    "timedOut": ("TIMEOUT", "red"),
    "ignoredFailure": ("ignored", "yellow"),
    "skipped": ("skipped", "bright_black"),
}


def show_problems(source: str, text: str, problems: Iterable[Problem]) -> None:
    """Each problem as `file:line:column code message`, its line with a caret, and a hint."""
    lines = text.splitlines()
    for problem in problems:
        position = f":{problem.position.line}:{problem.position.column}" if problem.position else ""
        color = "red" if problem.severity == "error" else "yellow"
        mark = [styled("warning: ", fg=color)] if problem.severity == "warning" else []
        code = styled(problem.code, fg=color, bold=True)
        echo(f"{source}{position} ", *mark, code, f" {visible(problem.message)}")
        if problem.position is not None and problem.position.line <= len(lines):
            line = visible(lines[problem.position.line - 1][:200])
            number = f"{problem.position.line:>5} | "
            echo(f"{number}{line}", fg="bright_black")
            echo(f"{' ' * (len(number) - 2)}| {' ' * (problem.position.column - 1)}^", fg="bright_black")
        if problem.hint:
            echo(f"      hint: {visible(problem.hint)}")


def problem_json(source: str, problem: Problem) -> Mapping[str, Any]:
    position = {"line": problem.position.line, "column": problem.position.column} if problem.position else {}
    return {
        "file": source, **position, "severity": problem.severity, "code": problem.code, "message": problem.message,
        "hint": problem.hint,
    }  # fmt: skip


def _is_terminal() -> bool:
    return sys.stdout.isatty()


@dataclass
class StepView:
    """A Reporter that writes one line per step; on a terminal the running step shows its output."""

    quiet: bool = False
    verbose: bool = False
    _last: list[str] = field(default_factory=list)
    _live: bool = field(default_factory=_is_terminal)

    def line(self, text: str) -> None:
        if self.verbose and not self.quiet:
            echo(visible(text), fg="bright_black")

    def output(self, stream: Stream, text: str) -> None:
        if len(self._last) >= _LAST_LINES:
            del self._last[0]
        self._last.append(visible(text[:2000]))
        if self.quiet:
            return
        if self.verbose:
            echo(f"  {visible(text)}", fg="red" if stream == "stderr" else None)
        elif self._live:
            self._show(f"{' ' * 10}{self._last[-1]}")

    def step_started(self, step: ReportedStep) -> None:
        self._last.clear()
        if self._live and not self.quiet and not self.verbose:
            self._show(f"{'...':>8}  {step.phase}/{step.name}  {step.action}")

    def step_finished(self, step: ReportedStep, result: StepResult) -> None:
        if self.quiet:
            return
        if self._live and not self.verbose:
            redraw("")
        mark, color = _MARKS[result.status]
        name = f"{step.phase}/{step.name}"
        echo(styled(f"{mark:>8}", fg=color), f"  {name:<40} {step.action:<20} {duration(result.seconds)}")
        if result.status in ("failed", "timedOut", "ignoredFailure"):
            echo(f"{' ' * 10}{visible(result.failure_message)}", fg=color)
            if not self.verbose:
                for line in self._last:
                    echo(f"{' ' * 10}| {line}", fg=color)

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        redraw(text[: width - 1])


class Several:
    """Passes the events to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def line(self, text: str) -> None:
        for reporter in self._reporters:
            reporter.line(text)

    def output(self, stream: Stream, text: str) -> None:
        for reporter in self._reporters:
            reporter.output(stream, text)

    def step_started(self, step: ReportedStep) -> None:
        for reporter in self._reporters:
            reporter.step_started(step)

    def step_finished(self, step: ReportedStep, result: StepResult) -> None:
        for reporter in self._reporters:
            reporter.step_finished(step, result)


def show_ending(result: ExecutionResult, texts: Sequence[str]) -> None:
    """One line of counts; for a failure also its position in the document."""
    failure = result.failure
    if failure is not None:
        number = failure.script_line or failure.position.line
        where = f"{failure.document_label}:{number}"
        what = f"step '{failure.step}' in phase '{failure.phase}'" if failure.step else "the document"
        echo(f"{where} {what}: {visible(failure.message)}", fg="red", bold=True)
        lines = texts[failure.document_index].splitlines() if failure.document_index < len(texts) else []
        if failure.step and number <= len(lines):
            echo(f"{number:>5} | {visible(lines[number - 1])}", fg="red")
    seconds = (result.ended - result.started).total_seconds()
    counts = [f"{result.executed_step_count} executed", f"{result.failed_step_count} failed"]
    if result.ignored_failed_step_count:
        counts.append(f"{result.ignored_failed_step_count} ignored")
    if result.skipped_step_count:
        counts.append(f"{result.skipped_step_count} skipped")
    color = "green" if result.status == "success" else "red"
    echo(styled(result.status, fg=color, bold=True), f": {', '.join(counts)} in {duration(seconds)}")
    if result.log_url:
        echo(f"logs: {result.log_url}")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
