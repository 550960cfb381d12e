"""`imagesmith component`: check component documents and run them here, in seconds and without a server."""

from __future__ import annotations

from pathlib import Path

import click

from imagesmith.cli.component_run import RunRequest, load, run_once, show_loaded
from imagesmith.cli.component_watch import run_watching
from imagesmith.cli.context import data_dir_option, json_option, print_json
from imagesmith.cli.starters import quoted, write_starter
from imagesmith.components.grammar import folded_message

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


class Assignment(click.ParamType[tuple[str, str]]):
    """NAME=VALUE; the value may hold anything, further equal signs included."""

    name = "NAME=VALUE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"'{value}' is no NAME=VALUE", param, ctx)
        return name, text


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def component() -> None:
    """Check, run and start component documents, without a server."""


@component.command()
@_FILES
@click.option("--platform", type=click.Choice(["Linux", "Windows", "macOS"], case_sensitive=False), default="Linux")
@click.option("--blocked-action-modules", callback=_names, metavar="A,B", help="Refuse documents that use these.")
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

    The exit status is 0 when all can be used and 1 when one cannot.
    """
    loaded = load(files, platform=platform, blocked=frozenset(blocked_action_modules or ()))
    message = "Validation successful."
    if not loaded.usable:
        bad = zip(files, loaded.parsed, strict=True)
        message = "; ".join(
            f"{path}: {folded_message(item.problems)}" for path, item in bad if item.document is None
        )
    if as_json:
        print_json({"validationStatus": "success" if loaded.usable else "failed", "message": message})
    else:
        show_loaded(files, loaded)
        if loaded.usable:
            click.secho(message, fg="green")
        else:
            count = sum(len(item.errors) for item in loaded.parsed)
            click.secho(f"{count} error{'s' if count != 1 else ''}", fg="red")
    if not loaded.usable:
        raise SystemExit(1)


@component.command()
@_FILES
@click.option(
    "--on",
    "place",
    default="host",
    show_default=True,
    metavar="host|container:REFERENCE|machine:DISK",
    help="Where: this computer, a new container of a managed base, an image or a layout, or a new virtual machine "
    "of a managed base or a disk that cloud-init can enter.",
)
@click.option("--phases", callback=_names, metavar="A,B", help="Which phases.  [default: all, in document order]")
@click.option("--param", "parameters", multiple=True, type=Assignment(), help="Set a parameter.")
@click.option(
    "--secret-param",
    "secrets",
    multiple=True,
    type=Assignment(),
    help="Set a parameter whose value is never shown.",
)
@click.option("--watch", is_flag=True, help="Run again after each save, on a container from the last good step.")
@click.option("--working-directory", metavar="DIR", help="Where relative paths of steps begin.")
@click.option("--log-directory", type=click.Path(path_type=Path, file_okay=False), help="Write a log folder here.")
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what is finished here, so that an interrupted run of the same documents goes on (host only).",
)
@click.option("--execution-id", default="", help="Name of the run.  [default: a new one]")
@click.option("-v", "--verbose", is_flag=True, help="Show everything that steps print.")
@json_option
@data_dir_option
def run(
    files: tuple[Path, ...],
    place: str,
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

    The exit status is 0 on success and 1 on a failure. With --json the result is the only output. A run with
    --state-directory whose step wants a restart of this computer ends with status 194 and goes on when it is
    started again.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together: a watch has no one result.")
    request = RunRequest(
        files=files,
        place=place,
        phases=phases,
        parameters={**dict(parameters), **dict(secrets)},
        secrets=frozenset(name for name, _ in secrets),
        data_dir=data_dir,
        working_directory=working_directory,
        log_directory=log_directory,
        state_directory=state_directory,
        execution_id=execution_id,
        as_json=as_json,
        verbose=verbose,
    )
    status = run_watching(request) if watch else run_once(request)
    if status:
        raise SystemExit(status)


@component.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("component.yml"))
@click.option("--name", default="", help="Name in the document.  [default: from the file's name]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def new(file: Path, name: str, *, force: bool) -> None:
    """Write a commented component document to start from.

    \b
    Examples:
      imagesmith component new
      imagesmith component new web.yml --name WebServer
    """
    title = name or "".join(part.capitalize() for part in file.stem.replace("_", "-").split("-")) or "Component"
    write_starter(file, STARTER.format(file=file, name=quoted(title)), force=force)
    click.echo(f"wrote {file}; check it with: imagesmith component validate {file}")
