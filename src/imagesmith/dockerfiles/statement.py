"""One logical line that is being read: its words, its flags, and the problems found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from imagesmith.dockerfiles.lines import Line
from imagesmith.dockerfiles.model import CommandLine, Heredoc, InstructionSource, Token
from imagesmith.dockerfiles.words import CommandWords, NotStrings, Word, blank_words, json_words
from imagesmith.documents.fields import suggestion
from imagesmith.values.diagnostics import Problem, Severity

FlagKind = Literal["text", "texts", "switch"]
_BOOLEANS = {"true": True, "false": False}
_MICRO = {0xB5: "u", 0x3BC: "u"}
"""The letters of a duration in microseconds; their bytes are read the same everywhere."""


@dataclass(frozen=True)
class InstructionLine:
    """What the parsers of the instructions read from."""

    line: Line
    command: CommandWords
    source: InstructionSource
    escape: str
    heredocs: tuple[Heredoc, ...]
    problems: list[Problem]

    @property
    def name(self) -> str:
        return self.command.keyword.text.upper()

    @property
    def rest(self) -> Word:
        return self.command.rest

    def token(self, word: Word) -> Token:
        return Token(word.text, self.line.at(word.offset), word.offset)

    def tokens(self, words: Sequence[Word]) -> tuple[Token, ...]:
        return tuple(map(self.token, words))

    def report(self, code: str, message: str, offset: int, hint: str = "", severity: Severity = "error") -> None:
        position = self.line.at(min(offset, max(len(self.line.text) - 1, 0)))
        self.problems.append(Problem(code=code, message=message, position=position, hint=hint, severity=severity))

    def needs(self, count: str) -> None:
        """Tell that arguments are missing or too many."""
        self.report("arguments", f"{self.name} takes {count}", self.command.keyword.offset)

    def only_one(self) -> Token | None:
        """The whole rest as the one argument that there must be."""
        if not self.rest.text:
            self.needs("an argument")
            return None
        return self.token(self.rest)

    def list_of_words(self) -> list[Word] | None:
        """A JSON array of strings, or words between blanks; None when the array holds something else."""
        try:
            found = json_words(self.rest)
        except NotStrings:
            self._tell_no_strings()
            return None
        return blank_words(self.rest) if found is None else found

    def command_line(self, rest: Word | None = None) -> CommandLine | None:
        """A command in one of its two forms; None when it is neither."""
        rest = rest or self.rest
        try:
            found = json_words(rest)
        except NotStrings:
            self._tell_no_strings()
            return None
        if found is not None:
            return CommandLine(self.tokens(found), True)
        return CommandLine((self.token(rest),) if rest.text else (), False, self.heredocs)

    def flags(self, known: Mapping[str, FlagKind]) -> Flags:
        """The flags of this instruction by name; what is wrong with them is told."""
        found: dict[str, list[Word]] = {}
        keyword = self.command.keyword
        before = self.line.text[keyword.offset + len(keyword.text) : self.rest.offset]
        if not before.translate(_MICRO).isascii():
            # the builder looks for white space byte by byte and would end a flag elsewhere
            self.report("flag-value", "flags and the spaces around them are written in ASCII", keyword.offset)
        for flag in self.command.flags:
            name, separator, value = flag.text[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                hint = suggestion(name, known) if known else f"{self.name} has no flags"
                self.report("unknown-flag", f"{self.name} has no flag '--{name[:40]}'", flag.offset, hint)
                continue
            if name in found and kind != "texts":
                self.report("flag-twice", f"the flag '--{name}' is given twice", flag.offset)
                continue
            if (kind != "switch" and not separator) or (separator and not value):
                hint = f"write --{name}=VALUE"
                self.report("flag-value", f"the flag '--{name}' has no value", flag.offset, hint)
                if kind != "switch" and not separator:
                    continue
            if kind == "switch" and value and value.lower() not in _BOOLEANS:
                message = f"the flag '--{name}' is true or false, not '{value[:40]}'"
                self.report("flag-value", message, flag.offset)
            found.setdefault(name, []).append(Word(value, flag.offset + 3 + len(name)))
        return Flags(self, found)

    def _tell_no_strings(self) -> None:
        self.report("json", "an array of JSON here contains only strings", self.rest.offset, 'write "1" for 1')


@dataclass(frozen=True)
class Flags:
    """The flags of one instruction that it knows."""

    statement: InstructionLine
    words: Mapping[str, Sequence[Word]]

    def text(self, name: str) -> Token | None:
        found = self.words.get(name)
        return self.statement.token(found[0]) if found else None

    def texts(self, name: str) -> tuple[Token, ...]:
        return self.statement.tokens(self.words.get(name, ()))

    def switch(self, name: str) -> bool | None:
        found = self.words.get(name)
        return _BOOLEANS.get(found[0].text.lower(), True) if found else None
