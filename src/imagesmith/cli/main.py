"""The `imagesmith` command: groups and their options."""

from __future__ import annotations

import sys

import click

from imagesmith import __version__
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.lazy import LazyGroup

_COMMANDS = {
    name: f"imagesmith.cli.{name}:{name}"
    for name in (
        "serve", "worker", "env", "pipeline", "image", "ami", "base", "component", "workflow", "schedule",
        "parameter", "event", "advisories", "doctor",
    )
}  # fmt: skip


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imagesmith")
def commands() -> None:
    """A self-hosted image factory that speaks EC2 Image Builder's API.

    \b
    Start the server:      imagesmith serve --data-dir ./data
    Point clients at it:   eval "$(imagesmith env --data-dir ./data)"
    Run a pipeline:        imagesmith pipeline run web --follow --data-dir ./data
    """


def main() -> None:
    """Entry point: one line for an expected failure, exit status 1; no traceback for users."""
    try:
        commands(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CommandFailed as error:
        click.secho(f"error: {error}", fg="red", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(1)
