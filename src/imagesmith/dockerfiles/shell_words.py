"""Variables in the words of a Dockerfile: quotes, escapes, `$name`, `${name}` and every modifier of Docker. Pure.

    ${a:-word} ${a:+word} ${a:?word}   an empty value counts as none    ${a-word} ${a+word} ${a?word}  it does not
    ${a#pattern} ${a##pattern}         without the shortest, longest beginning      % and %% the same at the end
    ${a/pattern/text} ${a//pattern/text}      the first match, every match replaced

What the parent image sets is not known before a build, so an expansion says whether its result is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from imagesmith.dockerfiles.shell_patterns import ShellPatternError, spans, without_prefix, without_suffix
from imagesmith.dockerfiles.word_splitting import Words, split_words
from imagesmith.values.expansion import Budget

_MAX_DEPTH: Final = 50
_SPECIAL: Final = frozenset("@*#?-$!0")


class ShellError(ValueError):
    """A word that cannot be expanded: says why, and at which offset of the word."""

    def __init__(self, message: str, offset: int) -> None:
        self.offset = offset
        super().__init__(message)


@dataclass(frozen=True)
class Environment:
    """The variables that a word may name."""

    values: Mapping[str, str] = field(default_factory=dict)
    uncertain: frozenset[str] = frozenset()
    """Names whose value depends on what is not known here."""
    is_open: bool = False
    """The parent image may set any other name."""

    def get(self, name: str) -> tuple[str | None, bool]:
        """The value, or None when it has none, and whether that is certain."""
        value = self.values.get(name)
        return value, name not in self.uncertain if value is not None else not self.is_open

    def with_values(self, values: Mapping[str, str], uncertain: frozenset[str] = frozenset()) -> Environment:
        """The same with further values; `uncertain`: those of them that are not certain."""
        return Environment({**self.values, **values}, (self.uncertain - values.keys()) | uncertain, self.is_open)


@dataclass(frozen=True)
class Expanded:
    """A word with its variables replaced."""

    text: str
    certain: bool = True
    words: tuple[str, ...] = ()
    """The text cut at white space that was neither quoted nor escaped."""
    modifiers: frozenset[str] = frozenset()
    """The modifiers in it: `:-`, `#` and so on."""


@dataclass(frozen=True)
class Keep:
    """What stays as it is written: quotes, escapes, references to variables without a value."""

    quotes: bool = False
    escapes: bool = False
    unset: bool = False
    ordinary_quotes: bool = False
    """Quotes mean nothing, so that they need not be closed."""


def expand(
    word: str, environment: Environment, budget: Budget, *, escape: str = "\\", keep: Keep | None = None
) -> Expanded:
    """Expand a word. Raises ShellError, and TooLarge before a text beyond the budget exists."""
    return _Expansion(word=word, environment=environment, budget=budget, escape=escape, keep=keep or Keep()).run()


@dataclass
class _Expansion:
    """The state of the expansion of one word."""

    word: str
    environment: Environment
    budget: Budget
    escape: str
    keep: Keep
    index: int = 0
    certain: bool = True
    depth: int = 0
    modifiers: set[str] = field(default_factory=set)

    def run(self) -> Expanded:
        if not any(char in self.word for char in ("$", "'", '"', self.escape)):
            return Expanded(self.word, True, tuple(split_words(self.word)))
        words = Words()
        text = self._until("", raw=self.keep.escapes, words=words)
        words.end()
        return Expanded(text, self.certain, tuple(words.done), frozenset(self.modifiers))

    def _until(self, stop: str, *, raw: bool, words: Words | None = None) -> str:
        """The expanded text up to a character, which is passed, or up to the end."""
        parts: list[str] = []
        out = words or Words()
        while self.index < len(self.word):
            char = self.word[self.index]
            if stop and char == stop:
                self.index += 1
                return "".join(parts)
            if char == "$":
                value = self._dollar()
                out.add(value)
            elif char == "'" and not self.keep.ordinary_quotes:
                value = self._single()
                out.add_whole(value)
            elif char == '"' and not self.keep.ordinary_quotes:
                value = self._double(raw=raw)
                out.add_whole(value)
            elif char == self.escape:
                value = self.word[self.index if raw else self.index + 1 : self.index + 2]
                self.index += 2
                out.add_whole(value)
            else:
                value = char
                self.index += 1
                out.add(char)
            parts.append(value)
        if stop:
            raise ShellError(f"'{stop}' is missing", len(self.word))
        return "".join(parts)

    def _single(self) -> str:
        end = self.word.find("'", self.index + 1)
        if end < 0:
            raise ShellError("a single quote is not closed", self.index)
        start, self.index = self.index, end + 1
        return self.word[start : end + 1] if self.keep.quotes else self.word[start + 1 : end]

    def _double(self, *, raw: bool) -> str:
        start = self.index
        parts = ['"'] if self.keep.quotes else []
        self.index += 1
        while self.index < len(self.word):
            char = self.word[self.index]
            if char == '"':
                self.index += 1
                return "".join([*parts, '"'] if self.keep.quotes else parts)
            if char == "$":
                parts.append(self._dollar())
                continue
            follower = self.word[self.index + 1 : self.index + 2]
            if char == self.escape and follower and follower in ('"', "$", self.escape):
                parts.append(char + follower if raw else follower)
                self.index += 2
                continue
            parts.append(char)
            self.index += 1
        raise ShellError("a double quote is not closed", start)

    def _dollar(self) -> str:
        start = self.index
        self.index += 1
        if self.word[self.index : self.index + 1] != "{":
            name = self._name()
            return self._value(name, start) if name else "$"
        self.index += 1
        if self.index >= len(self.word):
            raise ShellError("'}' is missing", start)
        if self.word[self.index] in "{}:":
            raise ShellError("the reference to a variable has no name", start)
        name = self._name()
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ShellError(f"references are nested more than {_MAX_DEPTH} deep", start)
        try:
            return self._modified(name, start)
        finally:
            self.depth -= 1

    def _modified(self, name: str, start: int) -> str:
        kind = self._take()
        if kind == "}":
            return self._value(name, start)
        if kind == "/":
            return self._replaced(name, start)
        empty_is_none = kind == ":"
        if empty_is_none:
            kind = self._take()
        if not kind:
            raise ShellError("'}' is missing", start)
        if kind not in ("-", "+", "?", "#", "%") or not name:
            raise ShellError(f"'{self.word[start : self.index][:40]}' has an unknown modifier", start)
        self.modifiers.add(f":{kind}" if empty_is_none else kind)
        before = self.certain
        word = self._until("}", raw=kind in "#%")
        value, known = self.environment.get(name)
        if self.keep.unset and value is None:
            return self.word[start : self.index]
        if kind in "#%":
            self.certain = self.certain and known
            return self._spend(self._trimmed(value or "", kind, word, start), start)
        has_value = bool(value) if empty_is_none else value is not None
        if not known:
            self.certain = False
        elif has_value != (kind == "+"):
            self.certain = before  # the other word is not taken
        if kind == "?" and not has_value and known:
            raise ShellError(f"the variable '{name[:80]}' has no value{': ' if word else ''}{word[:200]}", start)
        if kind == "+":
            return word if has_value else ""
        return self._spend(value or "", start) if has_value or kind == "?" else word

    def _trimmed(self, value: str, kind: str, pattern: str, start: int) -> str:
        longest = pattern.startswith(kind)
        cut = without_prefix if kind == "#" else without_suffix
        return self._matched(lambda: cut(value, pattern[1:] if longest else pattern, longest=longest), start)

    def _replaced(self, name: str, start: int) -> str:
        self.modifiers.add("/")
        every = self.word[self.index : self.index + 1] == "/"
        self.index += 1 if every else 0
        pattern = self._until("/", raw=True)
        replacement = self._until("}", raw=True)
        value, known = self.environment.get(name)
        if self.keep.unset and value is None:
            return self.word[start : self.index]
        self.certain = self.certain and known
        return self._matched(lambda: self._put_in(value or "", pattern, replacement, every, start), start)

    def _put_in(self, value: str, pattern: str, replacement: str, every: bool, start: int) -> str:
        parts: list[str] = []
        done = 0
        for begin, end in spans(value, pattern):
            self._spend(replacement, start)
            parts += (value[done:begin], replacement)
            done = end
            if not every:
                break
        return "".join((*parts, self._spend(value[done:], start)))

    def _matched(self, work: Callable[[], str], start: int) -> str:
        try:
            return work()
        except ShellPatternError as error:
            raise ShellError(str(error), start) from error

    def _value(self, name: str, start: int) -> str:
        value, known = self.environment.get(name)
        if value is None and self.keep.unset:
            return self.word[start : self.index]
        self.certain = self.certain and known
        return self._spend(value or "", start)

    def _spend(self, text: str, start: int) -> str:
        self.budget.spend(len(text), self.word[start : self.index])
        return text

    def _take(self) -> str:
        char = self.word[self.index : self.index + 1]
        self.index += 1
        return char

    def _name(self) -> str:
        start = self.index
        word = self.word
        if start < len(word) and word[start].isdecimal():
            while self.index < len(word) and word[self.index].isdecimal():
                self.index += 1
        elif start < len(word) and word[start] in _SPECIAL:
            self.index += 1
        else:
            while self.index < len(word) and (word[self.index].isalnum() or word[self.index] == "_"):
                self.index += 1
        return word[start : self.index]
