"""`imagesmith component`: check component documents and run them here, in seconds and without a server."""

from __future__ import annotations

from pathlib import Path

import click

from imagesmith.cli.assignment import Assignment
from imagesmith.cli.component_documents import RunRequest, load, problems_member, show_loaded, unique_parameters
from imagesmith.cli.context import data_dir_option, json_option, print_json
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.screen import echo
from imagesmith.cli.starters import quoted, write_starter
from imagesmith.components.parsed import folded_message

STARTER = """\
# A component document: phases of steps that change or test an instance.
# Check it:   imagesmith component validate {file}
# Run it:     imagesmith component run {file} --on container:debian-x86-12 --watch
name: {name}
description: What this component is for.
schemaVersion: 1.0

# Values that a recipe can set. Use one as '{{{{ Greeting }}}}'.
parameters:
  - Greeting:
      type: string
      default: hello
      description: What the file says.

phases:
  # build: changes the instance that the image is made of.
  - name: build
    steps:
      - name: WriteGreeting
        action: CreateFile
        inputs:
          - path: /etc/greeting
            content: '{{{{ Greeting }}}}'
            permissions: 0644

      - name: Install
        action: ExecuteBash
        timeoutSeconds: 600
        maxAttempts: 2 # mirrors can be busy
        onFailure: Abort # or Continue, or Ignore
        inputs:
          commands:
            - |
              set -e
              # apt-get update && apt-get install -y --no-install-recommends nginx
              echo "nothing to install yet"

  # validate: runs on the same instance, right after build.
  - name: validate
    steps:
      - name: ReadGreeting
        action: ReadFile
        inputs:
          - path: /etc/greeting

      - name: GreetingIsRight
        action: Assert
        inputs:
          stringEquals: '{{{{ Greeting }}}}'
          value: '{{{{ validate.ReadGreeting.outputs.content }}}}'

  # test: runs on a fresh instance of the finished image.
  - name: test
    steps:
      - name: GreetingSurvived
        action: Assert
        inputs:
          fileExists: /etc/greeting
"""


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))


@click.group(cls=PlainGroup)
def component() -> None:
    """Validate, run and create component documents, without a server."""


@component.command()
@_FILES
@click.option("--platform", type=click.Choice(["Linux", "Windows", "macOS"], case_sensitive=False), default="Linux")
@click.option(
    "--blocked-action-modules", callback=_names, metavar="A,B", help="Reject documents that use these actions."
)
@json_option
def validate(
    files: tuple[Path, ...], platform: str, *, blocked_action_modules: tuple[str, ...] | None, as_json: bool
) -> None:
    """Check component documents and show every problem with its line.

    \b
    Examples:
      imagesmith component validate web.yml
      imagesmith component validate *.yml --blocked-action-modules Reboot,UpdateOS
      imagesmith component validate setup.yml --platform Windows --json

    The exit status is 0 if all documents are valid and 1 otherwise.
    """
    loaded = load(files, platform=platform, blocked=frozenset(blocked_action_modules or ()))
    message = "Validation successful."
    if not loaded.usable:
        bad = zip(files, loaded.parsed, strict=True)
        message = "; ".join(
            f"{path}: {folded_message(item.problems)}" for path, item in bad if item.document is None
        )
    if as_json:
        status = "success" if loaded.usable else "failed"
        print_json({"validationStatus": status, "message": message, **problems_member(files, loaded)})
    else:
        show_loaded(files, loaded)
        if loaded.usable:
            echo(message, fg="green")
        else:
            count = sum(len(item.errors) for item in loaded.parsed)
            echo(f"{count} error{'s' if count != 1 else ''}", fg="red")
    if not loaded.usable:
        raise SystemExit(1)


@component.command()
@_FILES
@click.option(
    "--on",
    "target",
    default="host",
    show_default=True,
    metavar="host|container:REFERENCE|machine:DISK",
    help="Target: this computer, a new container of a managed base, an image or a layout, or a new virtual machine "
    "of a managed base or a disk with cloud-init.",
)
@click.option("--phases", callback=_names, metavar="A,B", help="Phases to run.  [default: all, in document order]")
@click.option("--param", "parameters", multiple=True, type=Assignment(), help="Set a parameter.")
@click.option(
    "--secret-param",
    "secrets",
    multiple=True,
    type=Assignment(),
    help="Set a parameter whose value is never shown.",
)
@click.option(
    "--watch", is_flag=True, help="Run again after each save, in a container, from the last step that succeeded."
)
@click.option("--working-directory", metavar="DIR", help="Folder that relative paths of steps start from.")
@click.option("--log-directory", type=click.Path(path_type=Path, file_okay=False), help="Folder for the logs.")
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that records finished steps; an interrupted run of the same documents continues (host only).",
)
@click.option("--execution-id", default="", help="Name of the run.  [default: a new one]")
@click.option("-v", "--verbose", is_flag=True, help="Show all output of the steps.")
@json_option
@data_dir_option
def run(
    files: tuple[Path, ...],
    target: str,
    *,
    phases: tuple[str, ...] | None,
    parameters: tuple[tuple[str, str], ...],
    secrets: tuple[tuple[str, str], ...],
    watch: bool,
    working_directory: str | None,
    log_directory: Path | None,
    state_directory: Path | None,
    execution_id: str,
    verbose: bool,
    as_json: bool,
    data_dir: Path,
) -> None:
    """Run component documents, one after the other.

    \b
    Examples:
      imagesmith component run web.yml --on container:debian-x86-12
      imagesmith component run web.yml --on container:debian-x86-12 --phases build,validate --watch
      imagesmith component run kernel.yml --on machine:debian-12-x86
      imagesmith component run check.yml --param Port=8080 --json
      imagesmith component run update.yml --state-directory /var/lib/update

    The exit status is 0 on success and 1 on a failure. With --json the result is the only output. If a step
    requests a restart of this computer, a run with --state-directory ends with status 194; start it again to
    continue.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json cannot be combined: --watch has no single result")
    request = RunRequest(
        files=files,
        target=target,
        phases=phases,
        parameters=unique_parameters((*parameters, *secrets)),
        secrets=frozenset(name for name, _ in secrets),
        data_dir=data_dir,
        working_directory=working_directory,
        log_directory=log_directory,
        state_directory=state_directory,
        execution_id=execution_id,
        as_json=as_json,
        verbose=verbose,
    )
    # imported late: `component validate` needs neither instances nor the database
    if watch:
        from imagesmith.cli.component_watch import run_watching

        status = run_watching(request)
    else:
        from imagesmith.cli.component_run import run_once

        status = run_once(request)
    if status:
        raise SystemExit(status)


@component.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("component.yml"))
@click.option("--name", default="", help="Name in the document.  [default: the file's name]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def new(file: Path, name: str, *, force: bool) -> None:
    """Write a commented component document to start from.

    \b
    Examples:
      imagesmith component new
      imagesmith component new web.yml --name WebServer
    """
    title = name or "".join(part.capitalize() for part in file.stem.replace("_", "-").split("-")) or "Component"
    write_starter(file, STARTER.format(file=file, name=quoted(title)), force=force)
    echo(f"wrote {file}; check it with: imagesmith component validate {file}")
