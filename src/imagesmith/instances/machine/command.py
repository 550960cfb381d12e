"""What a machine is asked to run: one line for its login shell.

cd DIRECTORY && exec PREFIX env -i NAME=VALUE... argv     one string, every word quoted
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 128 * 1024 - 1
"""What Linux takes as one argument, and the command line is one of the login shell."""


class ShellLost(ConnectionError):
    """The connection to the machine broke: it went down, or does not answer any more."""


class CommandTooLong(ValueError):
    """A command line that the machine's kernel would refuse."""


@dataclass(frozen=True)
class Command:
    """One program to run."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    limit: int
    prefix: tuple[str, ...] = ()
    """A program that starts the rest of the line, see hasten.py."""

    @property
    def line(self) -> str:
        """What the login shell is given. Raises CommandTooLong."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        words = shlex.join([*self.prefix, "env", "-i", *variables, *self.argv])
        line = f"cd {shlex.quote(self.directory)} && exec {words}"
        if len(line.encode(errors="surrogateescape")) > _LONGEST:
            raise CommandTooLong(f"the arguments of {self.argv[0][:200]} are longer than one command line takes")
        return line
