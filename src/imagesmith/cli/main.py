"""The `imagesmith` command: groups and their options."""

from __future__ import annotations

import sys

import click

from imagesmith import __version__
from imagesmith.cli.advisories import advisories
from imagesmith.cli.ami import ami
from imagesmith.cli.base import base
from imagesmith.cli.component import component
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.doctor import doctor
from imagesmith.cli.env import env
from imagesmith.cli.event import event
from imagesmith.cli.findings import findings
from imagesmith.cli.image import image
from imagesmith.cli.image_steps import approve, reject, steps
from imagesmith.cli.parameter import parameter
from imagesmith.cli.pipeline import pipeline
from imagesmith.cli.schedule import schedule
from imagesmith.cli.serve import serve
from imagesmith.cli.verify import verify
from imagesmith.cli.worker import worker
from imagesmith.cli.workflow import workflow


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imagesmith")
def commands() -> None:
    """A self-hosted image factory that speaks EC2 Image Builder's API.

    \b
    Start the server:      imagesmith serve --data-dir ./data
    Point clients at it:   eval "$(imagesmith env --data-dir ./data)"
    Run a pipeline:        imagesmith pipeline run web --follow --data-dir ./data
    """


for command in (
    serve, worker, env, pipeline, image, ami, base, component, workflow, schedule, parameter, event, advisories,
    doctor,
):  # fmt: skip
    commands.add_command(command)
for command in (findings, verify, steps, approve, reject):
    image.add_command(command)


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
