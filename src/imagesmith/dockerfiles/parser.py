"""Reads a Dockerfile or a template: its instructions with all positions, and all problems at once. Pure.

Docker's rules hold, as BuildKit carries them out; `docs/dockerfile.md` lists what differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from imagesmith.dockerfiles import configuration, filesystem
from imagesmith.dockerfiles.heredocs import read_heredocs
from imagesmith.dockerfiles.lines import Line, Reader
from imagesmith.dockerfiles.model import (
    Dockerfile,
    FromInstruction,
    Heredoc,
    Instruction,
    InstructionSource,
    OnbuildInstruction,
    Placeholder,
    Token,
)
from imagesmith.dockerfiles.placeholders import line_placeholder, placeholder_problems, without_blanks
from imagesmith.dockerfiles.statement import InstructionLine
from imagesmith.dockerfiles.words import split_command
from imagesmith.documents.fields import close_word
from imagesmith.values.diagnostics import Problem

_MAX_PROBLEMS: Final = 1_000
_LETTERS: Final = re.compile(r"[A-Za-z]+\Z")
_NO_TRIGGERS: Final = ("ONBUILD", "FROM", "MAINTAINER")
_PARSERS: Final[dict[str, Callable[[InstructionLine], Instruction | None]]] = {
    "FROM": filesystem.parse_from,
    "RUN": filesystem.parse_run,
    "COPY": filesystem.parse_copy,
    "ADD": filesystem.parse_add,
    "ARG": configuration.parse_arg,
    "ENV": configuration.parse_env,
    "LABEL": configuration.parse_label,
    "USER": configuration.parse_user,
    "WORKDIR": configuration.parse_workdir,
    "VOLUME": configuration.parse_volume,
    "EXPOSE": configuration.parse_expose,
    "CMD": configuration.parse_cmd,
    "ENTRYPOINT": configuration.parse_entrypoint,
    "SHELL": configuration.parse_shell,
    "HEALTHCHECK": configuration.parse_healthcheck,
    "STOPSIGNAL": configuration.parse_stopsignal,
    "MAINTAINER": configuration.parse_maintainer,
}
_KNOWN: Final = frozenset(_PARSERS) | {"ONBUILD"}


def parse_dockerfile(text: str) -> Dockerfile:
    """Read a text. An instruction that cannot be read is left out, and told."""
    reader = Reader(text)
    problems = list(reader.problems)
    found: list[Instruction] = []
    while True:
        line = reader.next_line()
        if line is not None and len(problems) > _MAX_PROBLEMS:
            problems.append(Problem("too-many", "there are too many problems: the rest is not checked", line.at(0)))
            line = None
        if line is None:
            return Dockerfile(tuple(found), reader.directives, tuple(problems))
        instruction = _read(reader, without_blanks(line), problems)
        if instruction is not None:
            found.append(instruction)


def _read(reader: Reader, line: Line, problems: list[Problem]) -> Instruction | None:
    command = split_command(line.text)
    keyword = Token(command.keyword.text, line.at(command.keyword.offset), command.keyword.offset)
    variable = line_placeholder(line)
    if variable:
        return Placeholder(InstructionSource(_verbatim(line, ()), keyword, line, command), variable)
    misplaced = list(placeholder_problems(line))
    if misplaced:
        problems += misplaced
    if not _LETTERS.match(keyword.text):
        message = f"'{line.text.strip()[:40]}' is not an instruction"
        problems.append(Problem("no-instruction", message, keyword.position))
        return None
    heredocs = read_heredocs(reader, line, problems)
    source = InstructionSource(_verbatim(line, heredocs), keyword, line, command)
    statement = InstructionLine(
        line=line,
        command=command,
        source=source,
        escape=reader.directives.escape,
        heredocs=heredocs,
        problems=problems,
    )
    return _onbuild(statement) if statement.name == "ONBUILD" else _parse(statement)


def _parse(statement: InstructionLine) -> Instruction | None:
    parser = _PARSERS.get(statement.name)
    if parser is not None:
        return parser(statement)
    close = close_word(statement.name, _KNOWN)
    hint = f"did you mean '{close}'?" if close else ""
    message = f"there is no instruction {statement.name[:40]}"
    statement.report("unknown-instruction", message, statement.command.keyword.offset, hint)
    return None


def _onbuild(statement: InstructionLine) -> OnbuildInstruction | None:
    statement.flags({})
    rest = statement.rest
    if not rest.text:
        statement.needs("an instruction")
        return None
    inner = split_command(statement.line.text, rest.offset)
    if inner.keyword.text.upper() in _NO_TRIGGERS:
        message = f"{inner.keyword.text.upper()} cannot be a trigger"
        statement.report("onbuild", message, inner.keyword.offset)
        return None
    source = InstructionSource(statement.source.text, statement.token(inner.keyword), statement.source.line, inner)
    trigger = _parse(
        InstructionLine(
            line=statement.line,
            command=inner,
            source=source,
            escape=statement.escape,
            heredocs=statement.heredocs,
            problems=statement.problems,
        )
    )
    if trigger is None or isinstance(trigger, FromInstruction):
        return None
    bodies = "".join(f"\n{item.content}{item.delimiter}" for item in statement.heredocs)
    return OnbuildInstruction(statement.source, trigger, f"{rest.text}{bodies}")


def _verbatim(line: Line, heredocs: tuple[Heredoc, ...]) -> str:
    text = "\n".join(item.text for item in line.physical)
    return text + "".join(f"\n{item.content}{item.delimiter}" for item in heredocs)
