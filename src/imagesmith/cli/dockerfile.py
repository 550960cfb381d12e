"""`imagesmith dockerfile`: check the Dockerfile templates of container recipes, without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from imagesmith.cli.component_view import problem_json, show_problems
from imagesmith.cli.context import CommandFailed, json_option, print_json
from imagesmith.cli.screen import echo
from imagesmith.dockerfiles.template import check_template
from imagesmith.values.diagnostics import Position, Problem, errors_of

_MAX_BYTES: Final = 64 * 1024
"""The size limit of the service for templates in a bucket."""
_ODD_ENDS: Final = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]|\r(?!\n)")
"""Line ends of Unicode that do not end a line of a Dockerfile."""


@click.group()
def dockerfile() -> None:
    """Check Dockerfile templates, without a server."""


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
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}") from error
    text, problems = _decoded(data)
    if not problems:
        problems = check_template(text, has_components=components)
    failing = errors_of(problems)
    message = "Validation successful."
    if failing:
        message = f"{len(failing)} error{'s' if len(failing) != 1 else ''}"
    if as_json:
        status = "failed" if failing else "success"
        documents = [problem_json(str(file), problem) for problem in problems]
        print_json({"validationStatus": status, "message": message, "problems": documents})
    else:
        show_problems(str(file), _ODD_ENDS.sub(" ", text.removeprefix("\ufeff")), problems)
        echo(message, fg="red" if failing else "green")
    if failing:
        raise SystemExit(1)


def _decoded(data: bytes) -> tuple[str, list[Problem]]:
    """The text of a file, and why it is not a text."""
    if len(data) > _MAX_BYTES:
        return "", [Problem("too-large", f"the file is longer than {_MAX_BYTES} bytes")]
    try:
        return data.decode(), []
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        place = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"the byte 0x{data[error.start]:02x} is not valid UTF-8"
        return data.decode(errors="replace"), [Problem("encoding", message, place)]
