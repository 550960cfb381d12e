"""The `imagesmith` command: groups and their options."""

from __future__ import annotations

import io
import os
import sys

import click

from imagesmith import __version__
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.lazy import LazyCommand, LazyGroup
from imagesmith.cli.screen import echo
from imagesmith.values.damaged import DamagedFile, misplaced

_SUMMARIES = {
    "serve": "Serve the API and run builds until SIGTERM or Ctrl-C.",
    "account": "The accounts that access keys belong to.",
    "key": "Access keys: create, rotate, revoke, restrict; a running server needs no restart.",
    "audit": "Show the changes that were asked for, and what became of them.",
    "worker": "Run builds that servers on the same PostgreSQL accept, until SIGTERM or Ctrl-C.",
    "env": "Print exports for the AWS CLI, SDKs and Terraform.",
    "pipeline": "Run and inspect pipelines.",
    "image": "Show images, their logs and packages; approve, reject, cancel and retry builds.",
    "ami": "Machine images: the catalog, export, boot.",
    "base": "Disks and images that builds start from.",
    "component": "Validate, run and create component documents, without a server.",
    "dockerfile": "Check and build Dockerfile templates, without a server.",
    "workflow": "Validate, plan and create workflow documents, without a server.",
    "lifecycle": "Preview and run lifecycle policies.",
    "schedule": "Explain schedule expressions; list the next runs.",
    "parameter": "Set and show stored parameters; a recipe can have one as parent, like ssm:/golden/debian-12.",
    "share": "Show and promote what is shared with other accounts by resource policies.",
    "event": "Show the events of this account.",
    "backup": "Back up a data directory while its server runs.",
    "verify": "Check the database, images, disks and signatures of a data directory.",
    "restore": "Restore a backup into an empty data directory.",
    "cve": "Show which of all images have the vulnerability NAME, where they run on and what mends them.",
    "advisories": "Import security advisories: OSV documents and the Debian security tracker.",
    "vex": "State which vulnerabilities do not affect which images; read and write OpenVEX.",
    "doctor": "Try every tool and kernel feature that builds need; exit 1 when a needed one fails.",
}
"""The first sentence of each command's help: otherwise the list of commands would import all of them."""
_MODULES = {"restore": "backup", "verify": "verify_all"}
"""Where a command is, if not in the module of its name."""
_COMMANDS = {
    name: LazyCommand(f"imagesmith.cli.{_MODULES.get(name, name)}", name, text) for name, text in _SUMMARIES.items()
}


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
        echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        echo(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except CommandFailed as error:
        echo(f"error: {error}", fg="red", err=True)
        if error.hint:
            echo(f"hint: {error.hint}", err=True)
        sys.exit(1)
    except DamagedFile as error:
        echo(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # the reader of the output closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        echo(f"error: {misplaced(error) or f'{where}{error.strerror or error}'}", fg="red", err=True)
        sys.exit(1)
