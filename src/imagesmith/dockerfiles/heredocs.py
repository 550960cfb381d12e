"""Here-documents of RUN, COPY and ADD: `<<EOF`, `<<-EOF`, `<<"EOF"`, several in one line. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from imagesmith.dockerfiles.lines import Line, Reader
from imagesmith.dockerfiles.model import Heredoc, Token
from imagesmith.dockerfiles.shell_words import Environment, Keep, ShellError, expand
from imagesmith.dockerfiles.words import NotStrings, json_words, split_command
from imagesmith.values.diagnostics import Problem
from imagesmith.values.expansion import Budget, TooLarge

_WORD: Final = re.compile(r"([0-9]*)<<(-?)([^<]*)\Z", re.DOTALL)
_TAKE: Final = frozenset({"RUN", "COPY", "ADD"})
_RAW: Final = Keep(quotes=True, escapes=True, unset=True)
_MANY: Final = 10**9


@dataclass(frozen=True)
class Mark:
    """`<<EOF` as it stands in an instruction."""

    delimiter: str
    expand: bool
    strip_tabs: bool


def parse_mark(word: str) -> Mark | None:
    """A word that announces a here-document; None for any other."""
    found = _WORD.match(word)
    if not found or not found[3]:
        return None
    try:
        plain = _words(found[3], Keep(unset=True))
        raw = _words(found[3], _RAW)
    except ShellError:
        return None
    if len(plain) != 1 or len(raw) != 1:
        return None
    quotes = [sum(text.count(quote) for quote in "'\"") for text in (plain[0], raw[0])]
    return Mark(plain[0], quotes[0] == quotes[1], found[2] == "-")


def read_heredocs(reader: Reader, line: Line, problems: list[Problem]) -> tuple[Heredoc, ...]:
    """The here-documents that a line announces, read from the lines below it."""
    if "<<" not in line.text or not _takes_heredocs(line.text):
        return ()
    try:
        words = _words(line.text, _RAW)
    except (ShellError, TooLarge):
        return ()
    found: list[Heredoc] = []
    start, after = reader.line_index, 0
    for word in words:
        mark = parse_mark(word)
        if mark is None:
            continue
        offset = max(line.text.find(word, after), 0)
        after = offset + len(word)
        position = line.at(offset)
        document = reader.document(mark.delimiter, strip_tabs=mark.strip_tabs)
        if document is None:
            message = f"one of the here-documents has no end: no line consists of '{mark.delimiter[:40]}' only"
            problems.append(Problem("heredoc", message, position))
            reader.go_back(start)
            return ()
        content, first = document
        found.append(
            Heredoc(
                delimiter=mark.delimiter,
                content=content,
                expand=mark.expand,
                strip_tabs=mark.strip_tabs,
                word=Token(word, position, offset),
                line=first,
            )
        )
    return tuple(found)


def _takes_heredocs(text: str) -> bool:
    command = split_command(text)
    if command.keyword.text.upper() == "ONBUILD":
        command = split_command(text, command.rest.offset)
    if command.keyword.text.upper() not in _TAKE:
        return False
    try:
        return json_words(command.rest) is None
    except NotStrings:
        return False


def _words(text: str, keep: Keep) -> tuple[str, ...]:
    return expand(text, Environment(), Budget(_MANY, _MANY), keep=keep).words
