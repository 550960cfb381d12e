"""Parsers of the instructions that write an image's configuration; each returns None when it told a problem."""

from __future__ import annotations

import re
from typing import Final

from imagesmith.dockerfiles.go_values import nanoseconds
from imagesmith.dockerfiles.lines import BLANK, SPACE
from imagesmith.dockerfiles.model import (
    ArgInstruction,
    CmdInstruction,
    Declaration,
    EntrypointInstruction,
    EnvInstruction,
    ExposeInstruction,
    HealthcheckInstruction,
    LabelInstruction,
    MaintainerInstruction,
    Pair,
    ShellInstruction,
    StopsignalInstruction,
    UserInstruction,
    VolumeInstruction,
    WorkdirInstruction,
)
from imagesmith.dockerfiles.statement import FlagKind, Flags, InstructionLine
from imagesmith.dockerfiles.words import Word, blank_words, quoted_words

_TIMES: Final = ("interval", "timeout", "start-period", "start-interval")
_HEALTH: Final[dict[str, FlagKind]] = {**dict.fromkeys(_TIMES, "text"), "retries": "text"}
_SHORTEST: Final = 10**6
_GAP: Final = re.compile(rf"[{BLANK}]+")


def parse_env(statement: InstructionLine) -> EnvInstruction | None:
    pairs = _pairs(statement)
    return EnvInstruction(statement.source, pairs) if pairs is not None else None


def parse_label(statement: InstructionLine) -> LabelInstruction | None:
    pairs = _pairs(statement)
    return LabelInstruction(statement.source, pairs) if pairs is not None else None


def parse_arg(statement: InstructionLine) -> ArgInstruction | None:
    statement.flags({})
    words = quoted_words(statement.rest, statement.escape)
    if not words:
        statement.needs("the name of a variable")
        return None
    found: list[Declaration] = []
    for word in words:
        name, equals, value = word.text.partition("=")
        if not name:
            statement.report("variable-name", "a variable has no name", word.offset, "write ARG NAME=VALUE")
            return None
        default = statement.token(Word(value, word.offset + len(name) + 1)) if equals else None
        found.append(Declaration(statement.token(Word(name, word.offset)), default))
    return ArgInstruction(statement.source, tuple(found))


def parse_user(statement: InstructionLine) -> UserInstruction | None:
    statement.flags({})
    user = statement.only_one()
    return UserInstruction(statement.source, user) if user else None


def parse_workdir(statement: InstructionLine) -> WorkdirInstruction | None:
    statement.flags({})
    path = statement.only_one()
    return WorkdirInstruction(statement.source, path) if path else None


def parse_stopsignal(statement: InstructionLine) -> StopsignalInstruction | None:
    statement.flags({})
    signal = statement.only_one()
    return StopsignalInstruction(statement.source, signal) if signal else None


def parse_maintainer(statement: InstructionLine) -> MaintainerInstruction | None:
    statement.flags({})
    maintainer = statement.only_one()
    if maintainer is None:
        return None
    hint = "use LABEL org.opencontainers.image.authors=..."
    offset = statement.command.keyword.offset
    statement.report("deprecated", "MAINTAINER is deprecated", offset, hint, "warning")
    return MaintainerInstruction(statement.source, maintainer)


def parse_volume(statement: InstructionLine) -> VolumeInstruction | None:
    statement.flags({})
    words = statement.list_of_words()
    if words is None:
        return None
    if not words:
        statement.needs("at least one path")
        return None
    for word in words:
        if not word.text.strip(SPACE):
            statement.report("empty", "the path of a VOLUME is empty", word.offset)
            return None
    return VolumeInstruction(statement.source, statement.tokens(words))


def parse_expose(statement: InstructionLine) -> ExposeInstruction | None:
    statement.flags({})
    words = blank_words(statement.rest)
    if not words:
        statement.needs("at least one port")
        return None
    return ExposeInstruction(statement.source, statement.tokens(words))


def parse_cmd(statement: InstructionLine) -> CmdInstruction | None:
    statement.flags({})
    command = statement.command_line()
    return CmdInstruction(statement.source, command) if command else None


def parse_entrypoint(statement: InstructionLine) -> EntrypointInstruction | None:
    statement.flags({})
    command = statement.command_line()
    return EntrypointInstruction(statement.source, command) if command else None


def parse_shell(statement: InstructionLine) -> ShellInstruction | None:
    statement.flags({})
    command = statement.command_line()
    if command is None:
        return None
    if not command.is_exec:
        hint = 'write SHELL ["/bin/bash", "-c"]'
        if statement.rest.text:
            statement.report("json", "SHELL takes an array of JSON", statement.rest.offset, hint)
        else:
            statement.needs("an array of JSON")
        return None
    if not command.words:
        statement.report("arguments", "the array of SHELL is empty", statement.rest.offset)
        return None
    return ShellInstruction(statement.source, command.words)


def parse_healthcheck(statement: InstructionLine) -> HealthcheckInstruction | None:
    text = statement.rest.text
    end = next((index for index, char in enumerate(text) if char in SPACE), len(text))
    kind = text[:end].upper()
    after = len(text) - len(text[end:].lstrip(SPACE))
    rest = Word(text[after:], statement.rest.offset + after)
    if kind == "NONE":
        if rest.text:
            statement.report("arguments", "HEALTHCHECK NONE takes no arguments", rest.offset)
            return None
        for flag in statement.command.flags:
            statement.report("no-effect", "HEALTHCHECK NONE takes no flags", flag.offset, severity="warning")
        return HealthcheckInstruction(statement.source, None)
    flags = statement.flags(_HEALTH)
    if kind != "CMD":
        message = f"'{text[:end][:40]}' is not a kind of health check" if kind else "HEALTHCHECK takes CMD or NONE"
        statement.report("arguments", message, statement.rest.offset, "write HEALTHCHECK CMD command")
        return None
    command = statement.command_line(rest)
    if command is None:
        return None
    if not command.words:
        statement.report("arguments", "HEALTHCHECK CMD has no command", statement.rest.offset)
        return None
    interval, timeout, start_period, start_interval = (_time(flags, name) for name in _TIMES)
    return HealthcheckInstruction(
        source=statement.source,
        command=command,
        interval=interval,
        timeout=timeout,
        start_period=start_period,
        start_interval=start_interval,
        retries=_retries(flags),
    )


def _time(flags: Flags, name: str) -> int:
    for word in flags.words.get(name, ()):
        value = nanoseconds(word.text)
        if value is None and word.text:
            message = f"'{word.text[:40]}' is not a duration"
            flags.statement.report("duration", message, word.offset, "write a number with a unit, like 30s")
        elif value and value < _SHORTEST:
            flags.statement.report("duration", f"--{name} cannot be less than 1ms", word.offset)
        return value or 0
    return 0


def _retries(flags: Flags) -> int:
    for word in flags.words.get("retries", ()):
        found = re.fullmatch(r"[-+]?[0-9]{1,10}", word.text, re.ASCII)
        if word.text and (found is None or not 0 <= int(word.text) < 2**31):
            flags.statement.report("number", f"'{word.text[:40]}' is not a number of retries", word.offset)
            return 0
        return int(word.text or "0")
    return 0


def _pairs(statement: InstructionLine) -> tuple[Pair, ...] | None:
    """`key=value ...`, or the old form `key value`."""
    statement.flags({})
    words = quoted_words(statement.rest, statement.escape)
    if not words:
        statement.needs("at least one key=value")
        return None
    if "=" not in words[0].text:
        return _old_pair(statement)
    pairs: list[Pair] = []
    for word in words:
        key, equals, value = word.text.partition("=")
        if not equals:
            hint = "put values with spaces into quotes"
            statement.report("pair", f"'{word.text[:40]}' is not of the form key=value", word.offset, hint)
            return None
        if not key:
            statement.report("variable-name", f"a name of {statement.name} is empty", word.offset)
            return None
        value_word = Word(value, word.offset + len(key) + 1)
        pairs.append(Pair(statement.token(Word(key, word.offset)), statement.token(value_word)))
    return tuple(pairs)


def _old_pair(statement: InstructionLine) -> tuple[Pair, ...] | None:
    rest = statement.rest
    gap = _GAP.search(rest.text)
    if gap is None:
        message = f"'{rest.text[:40]}' has no value"
        statement.report("pair", message, rest.offset, f"write {statement.name} NAME=VALUE")
        return None
    key = statement.token(Word(rest.text[: gap.start()], rest.offset))
    return (Pair(key, statement.token(Word(rest.text[gap.end() :], rest.offset + gap.end()))),)
