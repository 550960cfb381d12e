"""Commands that are imported when they run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from imagesmith.cli.image import image
from imagesmith.cli.lazy import LazyGroup
from imagesmith.cli.main import commands

DOCUMENT = Path(__file__).parents[2] / "demo" / "web-server.yml"


@pytest.mark.parametrize("group", [commands, image], ids=["imagesmith", "image"])
def test_the_list_of_commands_says_what_each_command_says(group: click.Group) -> None:
    """The text that is shown without an import is the first sentence of the command's own help."""
    assert isinstance(group, LazyGroup)
    context = click.Context(group)
    for name, lazy in group.lazy.items():
        command = group.get_command(context, name)
        assert command is not None
        assert lazy.short_help == command.get_short_help_str(limit=1000), name


@pytest.mark.parametrize("name", sorted(commands.list_commands(click.Context(commands))))
def test_lists_of_commands_have_whole_sentences(name: str) -> None:
    """click would end a longer one with three dots."""
    command = commands.get_command(click.Context(commands), name)
    if isinstance(command, click.Group):
        assert "..." not in command.get_help(click.Context(command, info_name=name)).partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("imge",), "Did you mean 'image'?"),
        (("pipline", "run"), "Did you mean 'pipeline'?"),
        (("image", "lgs"), "Did you mean 'logs'?"),
        (("image", "lst"), "Did you mean 'list'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_misspelt_command_is_answered_with_the_nearest_name(words: tuple[str, ...], hint: str) -> None:
    """Commands that are not imported yet are suggested as well as those that are."""
    done = CliRunner().invoke(commands, list(words))
    assert done.exit_code == 2
    assert hint in done.output


HEAVY = {"sqlalchemy", "dbos", "botocore", "qemu", "asyncssh", "rich"}


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (("--help",), 250),
        (("component", "validate", str(DOCUMENT)), 300),
        (("component", "validate", "--help"), 300),
        (("workflow", "validate", "--help"), 320),
        (("schedule", "next", "cron(0 9 ? * mon#1 *)", "-n", "1"), 300),
    ],
    ids=lambda value: " ".join(map(str, value[:2])) if isinstance(value, tuple) else "",
)
def test_short_commands_load_little(words: tuple[str, ...], most: int) -> None:
    """What needs no server loads few modules, Python's own included, and none of the large libraries."""
    program = """
import atexit, json, sys
from imagesmith.cli.main import main
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv[0] = "imagesmith"
main()
"""
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert len(modules) < most
    assert not HEAVY & modules


def test_the_help_names_every_command() -> None:
    """Without importing one."""
    shown = CliRunner().invoke(commands, ["--help"])
    assert all(f"  {name} " in shown.output for name in commands.lazy)
