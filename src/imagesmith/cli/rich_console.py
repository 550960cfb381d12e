"""The console of rich on standard output; on a terminal external text is escaped (values/visible.py)."""

from __future__ import annotations

import sys

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult

from imagesmith.values.visible import visible

_WIDE = 400
"""Columns when standard output is not a terminal: tables are not cut."""


def open_console(*, quiet: bool) -> Console:
    """A console as wide as the terminal, and of unlimited width for programs."""
    if not sys.stdout.isatty():
        return Console(quiet=quiet, width=_WIDE)
    console = Console(quiet=quiet)
    console.push_render_hook(_Visible())
    return console


class _Visible(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Seen(item) for item in renderables]


class _Seen:
    """The rendered output with escaped text; codes of the console itself pass."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
