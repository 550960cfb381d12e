"""Builds the command line for the login shell of a machine, and defines its errors.

cd DIRECTORY && exec PREFIX env -i NAME=VALUE... argv     one string, every word quoted
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from imagesmith.instances.command import Command

_LONGEST = 128 * 1024 - 1
"""The longest argument on Linux: the command line is one argument of the login shell."""


class ShellLost(ConnectionError):
    """The connection to the machine broke: it shut down, or no longer answers."""


class LoginRefused(ShellLost):
    """The machine answers and refuses the login."""


class CommandTooLong(ValueError):
    """A command line that the machine's kernel would refuse."""


def shell_line(command: Command, prefix: Sequence[str] = ()) -> str:
    """The text that the login shell receives; `prefix` starts the rest of the line (disable_aslr.py).

    Raises CommandTooLong.
    """
    variables = [f"{name}={value}" for name, value in command.env.items()]
    words = shlex.join([*prefix, "env", "-i", *variables, *command.argv])
    line = f"cd {shlex.quote(command.cwd or '/')} && exec {words}"
    if len(line.encode(errors="surrogateescape")) > _LONGEST:
        raise CommandTooLong(f"the arguments of {command.argv[0][:200]} are longer than one command line takes")
    return line
