"""The only output functions of commands: external text cannot control a terminal (values/visible.py).

    echo("FAILED", styled(step, fg="red"), "  ", message)      colours are set here, everything else is escaped

Files and pipes receive every byte unchanged, so that a log can be kept and compared.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from imagesmith.values.visible import visible

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Styled:
    """A part of a line with its own style."""

    text: str
    style: Mapping[str, Any]


def styled(text: str, **style: Any) -> Styled:
    return Styled(text, style)


def echo(*parts: object, err: bool = False, nl: bool = True, file: IO[str] | None = None, **style: Any) -> None:
    """Print parts one after another; `style` applies to parts without a style."""
    stream = file or (sys.stderr if err else sys.stdout)
    terminal = stream.isatty()
    line = ""
    for part in parts:
        text, own = (part.text, part.style) if isinstance(part, Styled) else (str(part), style)
        text = visible(text) if terminal else text
        line += click.style(text, **own) if own and terminal else text
    # without a terminal click would strip text that looks like a colour, which may be a user's text
    click.echo(line, file=file, err=err, nl=nl, color=None if terminal else True)


def redraw(text: str) -> None:
    """Replace the current line of a terminal."""
    click.echo(f"\r\x1b[K{visible(text)}", nl=False)


def make_console(*, quiet: bool = False) -> Console:
    """A console on standard output, for tables and progress."""
    # imported late: rich is a fifth of a short command's imports, and most commands show no table
    from imagesmith.cli.rich_console import open_console

    return open_console(quiet=quiet)


def start_logging(level: str) -> None:
    """The log of this process on standard error; it contains names of requests and files from outside."""
    logging.basicConfig(level=level.upper())
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return visible(text) if sys.stderr.isatty() else text


__all__: Sequence[str] = ("Styled", "echo", "make_console", "redraw", "start_logging", "styled")
