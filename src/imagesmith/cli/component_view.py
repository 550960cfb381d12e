"""How `imagesmith component` shows problems with their lines, steps as they end, failures with their cause."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import click

from imagesmith.components.reporting import Reporter, StepPlace
from imagesmith.components.results import ExecutionResult, StepResult
from imagesmith.processes import Stream
from imagesmith.values.diagnostics import Problem

_LAST_LINES = 12
_MARKS = {
    "success": ("ok", "green"),
    "failed": ("FAILED", "red"),
    "timedOut": ("TIMEOUT", "red"),
    "ignoredFailure": ("ignored", "yellow"),
    "skipped": ("skipped", "bright_black"),
}


def show_problems(source: str, text: str, problems: Iterable[Problem]) -> None:
    """Each problem as `file:line:column code message`, its line with a caret, and what to try."""
    lines = text.splitlines()
    for problem in problems:
        place = f":{problem.position.line}:{problem.position.column}" if problem.position else ""
        color = "red" if problem.severity == "error" else "yellow"
        click.echo(f"{source}{place} {click.style(problem.code, fg=color, bold=True)} {plain(problem.message)}")
        if problem.position is not None and problem.position.line <= len(lines):
            line = plain(lines[problem.position.line - 1])[:200]
            number = f"{problem.position.line:>5} | "
            click.secho(f"{number}{line}", fg="bright_black")
            click.secho(f"{' ' * (len(number) - 2)}| {' ' * (problem.position.column - 1)}^", fg="bright_black")
        if problem.hint:
            click.echo(f"      hint: {plain(problem.hint)}")


def plain(text: str) -> str:
    """The text without characters that would drive the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


@dataclass
class StepView:
    """A Reporter that writes one line per step; on a terminal the running step shows what it prints."""

    quiet: bool = False
    verbose: bool = False
    _last: list[str] = field(default_factory=list)
    _live: bool = field(default_factory=_is_terminal)

    def line(self, text: str) -> None:
        if self.verbose and not self.quiet:
            click.secho(plain(text), fg="bright_black")

    def output(self, stream: Stream, text: str) -> None:
        if len(self._last) >= _LAST_LINES:
            del self._last[0]
        self._last.append(plain(text[:2000]))
        if self.quiet:
            return
        if self.verbose:
            click.secho(f"  {plain(text)}", fg="red" if stream == "stderr" else None)
        elif self._live:
            self._show(f"{' ' * 10}{self._last[-1]}")

    def step_started(self, place: StepPlace) -> None:
        self._last.clear()
        if self._live and not self.quiet and not self.verbose:
            self._show(f"{'...':>8}  {place.phase}/{place.step}  {place.action}")

    def step_finished(self, place: StepPlace, result: StepResult) -> None:
        if self.quiet:
            return
        if self._live and not self.verbose:
            click.echo("\r\x1b[K", nl=False)
        mark, color = _MARKS[result.status]
        name = f"{place.phase}/{place.step}"
        click.echo(
            f"{click.style(f'{mark:>8}', fg=color)}  {name:<40} {place.action:<20} {duration(result.seconds)}"
        )
        if result.status in ("failed", "timedOut", "ignoredFailure"):
            click.secho(f"{' ' * 10}{plain(result.failure_message)}", fg=color)
            if not self.verbose:
                for line in self._last:
                    click.secho(f"{' ' * 10}| {line}", fg=color)

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        click.echo(f"\r\x1b[K{text[: width - 1]}", nl=False)


class Several:
    """Reporters that all hear the same."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def line(self, text: str) -> None:
        for reporter in self._reporters:
            reporter.line(text)

    def output(self, stream: Stream, text: str) -> None:
        for reporter in self._reporters:
            reporter.output(stream, text)

    def step_started(self, place: StepPlace) -> None:
        for reporter in self._reporters:
            reporter.step_started(place)

    def step_finished(self, place: StepPlace, result: StepResult) -> None:
        for reporter in self._reporters:
            reporter.step_finished(place, result)


def show_ending(result: ExecutionResult, texts: Sequence[str]) -> None:
    """One line of counts; for a failure also where it stands in its document."""
    failure = result.failure
    if failure is not None:
        number = failure.script_line or failure.position.line
        place = f"{failure.document_label}:{number}"
        what = f"step '{failure.step}' in phase '{failure.phase}'" if failure.step else "the document"
        click.secho(f"{place} {what}: {plain(failure.message)}", fg="red", bold=True)
        lines = texts[failure.document_index].splitlines() if failure.document_index < len(texts) else []
        if failure.step and number <= len(lines):
            click.secho(f"{number:>5} | {plain(lines[number - 1])}", fg="red")
    seconds = (result.ended - result.started).total_seconds()
    counts = [f"{result.executed_step_count} executed", f"{result.failed_step_count} failed"]
    if result.ignored_failed_step_count:
        counts.append(f"{result.ignored_failed_step_count} ignored")
    if result.skipped_step_count:
        counts.append(f"{result.skipped_step_count} skipped")
    color = "green" if result.status == "success" else "red"
    click.echo(f"{click.style(result.status, fg=color, bold=True)}: {', '.join(counts)} in {duration(seconds)}")
    if result.log_url:
        click.echo(f"logs: {result.log_url}")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
