"""Commands that are imported when they are run, so that short ones do not load the modules of long ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click


@dataclass(frozen=True)
class LazyCommand:
    """The module of a command, and its text in the list of commands, without an import."""

    module: str
    attribute: str
    short_help: str

    def load(self) -> click.Command:
        found = getattr(import_module(self.module), self.attribute)
        assert isinstance(found, click.Command), f"{self.module}:{self.attribute} is not a command"
        return found


_WHOLE = 1000
"""Characters: more than the first sentence of any help has, so that click ends none with three dots."""


class PlainGroup(click.Group):
    """A group whose list of commands has whole sentences."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        command = click.Group.get_command(self, ctx, name)
        return command.get_short_help_str(_WHOLE) if command else ""


class LazyGroup(PlainGroup):
    """A group of commands that are imported one by one; its help imports none."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self.lazy.get(cmd_name)
        return lazy.load() if lazy else super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            # click looks for similar names only among commands that are imported already
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None

    def _short_help(self, ctx: click.Context, name: str) -> str:
        lazy = self.lazy.get(name)
        return lazy.short_help if lazy else super()._short_help(ctx, name)
