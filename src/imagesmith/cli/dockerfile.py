"""`imagesmith dockerfile`: check and build the Dockerfile templates of container recipes, without a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from imagesmith.cli.component_view import problem_json, show_problems
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.screen import echo
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.template import check_dockerfile, check_template
from imagesmith.values.diagnostics import Position, Problem, errors_of

_MAX_BYTES: Final = 64 * 1024
"""The size limit of the service for templates in a bucket."""
_ODD_ENDS: Final = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]|\r(?!\n)")
"""Line ends of Unicode that do not end a line of a Dockerfile."""


@click.group(cls=PlainGroup)
def dockerfile() -> None:
    """Check and build Dockerfile templates, without a server."""


@dockerfile.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--components", is_flag=True, help="The recipe lists components, so the template needs the variables for them."
)
@json_option
def check(file: Path, *, components: bool, as_json: bool) -> None:
    """Check a Dockerfile template as CreateContainerRecipe does and show every problem with its line.

    \b
    Examples:
      imagesmith dockerfile check Dockerfile
      imagesmith dockerfile check Dockerfile --components --json

    The exit status is 0 if the template is valid and 1 otherwise.
    """
    text, problems = _read(file)
    if not problems:
        problems = check_template(text, has_components=components)
    failing = errors_of(problems)
    message = "Validation successful."
    if failing:
        message = f"{len(failing)} error{'s' if len(failing) != 1 else ''}"
    if as_json:
        status = "failed" if failing else "success"
        print_json({"validationStatus": status, "message": message, "problems": _documents(file, problems)})
    else:
        _show(file, text, problems)
        echo(message, fg="red" if failing else "green")
    if failing:
        raise SystemExit(1)


@dockerfile.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--parent", metavar="IMAGE", default="", help="The parent image: a managed base, oci:FOLDER, or a name."
)
@click.option(
    "--image", "images", metavar="NAME=IMAGE", multiple=True, help="An image to use for a name; may be repeated."
)
@click.option(
    "--output", metavar="oci:FOLDER", default="", help="Where to write the image; without, it is dropped."
)
@click.option(
    "--timeout", type=click.FloatRange(1), default=7200.0, show_default=True, help="Seconds of the build."
)
@click.option("--no-cache", is_flag=True, help="Use nothing of earlier builds.")
@click.option("--network", type=click.Choice(["outbound", "none"]), default="outbound", show_default=True)
@data_dir_option
@json_option
def build(file: Path, *, data_dir: Path, as_json: bool, **options: Any) -> None:
    """Build a Dockerfile template as a recipe does, without its components.

    \b
    Examples:
      imagesmith dockerfile build Dockerfile --parent debian-x86-12
      imagesmith dockerfile build Dockerfile --parent oci:./base --output oci:./built --json

    Instructions whose inputs an earlier build had are not carried out again; the settings cache_mb and
    cache_max_age_hours of [builds] bound what is kept and how old what comes from the network may be.

    The exit status is 0 if the image was built and 1 otherwise.
    """
    # the command's other half needs the builder, which `check` does without
    from imagesmith.cli.dockerfile_build import AskedBuild, build_once

    text, problems = _read(file)
    problems = problems or check_dockerfile(parse_dockerfile(text))
    if not as_json:
        _show(file, text, problems)
    asked = AskedBuild(file=file, data_dir=data_dir, as_json=as_json, **options)
    if not build_once(asked, text, _documents(file, problems), valid=not errors_of(problems)):
        raise SystemExit(1)


def _read(file: Path) -> tuple[str, list[Problem]]:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}") from error
    return _decoded(data)


def _documents(file: Path, problems: list[Problem]) -> list[Mapping[str, Any]]:
    return [problem_json(str(file), problem) for problem in problems]


def _show(file: Path, text: str, problems: list[Problem]) -> None:
    show_problems(str(file), _ODD_ENDS.sub(" ", text.removeprefix("\ufeff")), problems)


def _decoded(data: bytes) -> tuple[str, list[Problem]]:
    """The text of a file, and why it is not a text."""
    if len(data) > _MAX_BYTES:
        return "", [Problem("too-large", f"the file is longer than {_MAX_BYTES} bytes")]
    try:
        return data.decode(), []
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"the byte 0x{data[error.start]:02x} is not valid UTF-8"
        return data.decode(errors="replace"), [Problem("encoding", message, position)]
