"""Parsers of the instructions that begin a stage or change its files. Each returns None after it told a problem."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from imagesmith.dockerfiles.go_values import is_platform
from imagesmith.dockerfiles.heredocs import parse_mark
from imagesmith.dockerfiles.model import (
    AddInstruction,
    CopyInstruction,
    FromInstruction,
    Heredoc,
    RunInstruction,
    Token,
)
from imagesmith.dockerfiles.mounts import parse_mount
from imagesmith.dockerfiles.statement import FlagKind, Flags, InstructionLine
from imagesmith.dockerfiles.words import Word, blank_words

_FROM: Final[dict[str, FlagKind]] = {"platform": "text"}
_RUN: Final[dict[str, FlagKind]] = {"mount": "texts", "network": "text", "security": "text", "device": "texts"}
_FILES: Final[dict[str, FlagKind]] = {"chown": "text", "chmod": "text", "link": "switch", "exclude": "texts"}
_COPY: Final[dict[str, FlagKind]] = {**_FILES, "from": "text", "parents": "switch"}
_ADD: Final[dict[str, FlagKind]] = {
    **_FILES, "checksum": "text", "keep-git-dir": "switch", "unpack": "switch",
}  # fmt: skip
_STAGE: Final = re.compile(r"[a-z][a-z0-9-_.]*\Z")
_NETWORKS: Final = ("default", "none", "host")
_SECURITIES: Final = ("sandbox", "insecure")


def parse_from(statement: InstructionLine) -> FromInstruction | None:
    flags = statement.flags(_FROM)
    words = blank_words(statement.rest)
    stage: Token | None = None
    if not words:
        statement.needs("an image")
        return None
    if len(words) == 3 and words[1].text.lower() == "as":
        if _STAGE.match(words[2].text.lower()):
            stage = statement.token(words[2])
        else:
            hint = "it begins with a letter; letters, digits, '-', '_' and '.' follow"
            message = f"'{words[2].text[:40]}' cannot be the name of a stage"
            statement.report("stage-name", message, words[2].offset, hint)
    elif len(words) != 1:
        statement.report("arguments", "FROM takes an image, or an image and AS with a name", words[1].offset)
    platform = flags.text("platform")
    if platform and "$" not in platform.text and not is_platform(platform.text):
        offset = flags.words["platform"][0].offset
        message = f"'{platform.text[:40]}' is not a platform"
        statement.report("platform", message, offset, "write --platform=linux/amd64")
    return FromInstruction(statement.source, statement.token(words[0]), stage, platform)


def parse_run(statement: InstructionLine) -> RunInstruction | None:
    flags = statement.flags(_RUN)
    command = statement.command_line()
    if command is None:
        return None
    if not command.words:
        statement.needs("a command")
        return None
    mounts = [parse_mount(statement, word) for word in flags.words.get("mount", ())]
    _one_of(flags, "network", _NETWORKS)
    _one_of(flags, "security", _SECURITIES)
    return RunInstruction(
        source=statement.source,
        command=command,
        mounts=tuple(mount for mount in mounts if mount),
        network=flags.text("network"),
        security=flags.text("security"),
        devices=flags.texts("device"),
    )


def parse_copy(statement: InstructionLine) -> CopyInstruction | None:
    flags = statement.flags(_COPY)
    found = _sources(statement)
    if found is None:
        return None
    sources, heredocs, destination = found
    return CopyInstruction(
        source=statement.source,
        sources=sources,
        heredocs=heredocs,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        excludes=flags.texts("exclude"),
        from_=flags.text("from"),
        parents=bool(flags.switch("parents")),
    )


def parse_add(statement: InstructionLine) -> AddInstruction | None:
    flags = statement.flags(_ADD)
    found = _sources(statement)
    if found is None:
        return None
    sources, heredocs, destination = found
    return AddInstruction(
        source=statement.source,
        sources=sources,
        heredocs=heredocs,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        excludes=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=bool(flags.switch("keep-git-dir")),
        unpack=flags.switch("unpack"),
    )


def _sources(statement: InstructionLine) -> tuple[tuple[Token, ...], tuple[Heredoc, ...], Token] | None:
    """What is copied, and where to."""
    words = statement.list_of_words()
    if words is None:
        return None
    if len(words) < 2:
        statement.needs("at least one source and a destination")
        return None
    if parse_mark(words[-1].text):
        statement.report("heredoc", "a here-document cannot be the destination", words[-1].offset)
        return None
    plain, documents = _told_apart(statement, words[:-1])
    return statement.tokens(plain), documents, statement.token(words[-1])


def _told_apart(statement: InstructionLine, words: Sequence[Word]) -> tuple[list[Word], tuple[Heredoc, ...]]:
    known = {item.delimiter: item for item in statement.heredocs}
    plain: list[Word] = []
    documents: list[Heredoc] = []
    for word in words:
        mark = parse_mark(word.text)
        if mark is None or mark.delimiter not in known:
            plain.append(word)
        else:
            documents.append(known[mark.delimiter])
    return plain, tuple(documents)


def _one_of(flags: Flags, name: str, known: Sequence[str]) -> None:
    for word in flags.words.get(name, ()):
        if word.text not in known:
            message = f"'{word.text[:40]}' cannot be the {name} of a RUN"
            flags.statement.report("flag-value", message, word.offset, f"it is {' or '.join(known)}")
