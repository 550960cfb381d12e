"""Patterns of paths, as BuildKit reads them: Go's filepath.Match, and `**` in excludes and below a pivot.

    *      any letters but '/'          [a-c]  one letter; [^a-c] one other
    ?      one letter but '/'           \\x     the letter x
    **/    any folders, also none       **     at the end: everything below

A pattern is a small automaton that reads a path letter by letter, so no pattern takes longer than the product of
both lengths, and it can tell whether something below a folder may still match.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imagesmith.copying.program.failures import UserFailure, shown

_WILD: Final = "*?["
_MOST: Final = 4096
_KNOWN: Final = 20_000
"""Steps of its automaton that one pattern remembers."""


def has_wildcards(text: str) -> bool:
    """Whether a text is a pattern; an escaped letter is none."""
    index = 0
    while index < len(text):
        if text[index] in _WILD:
            return True
        index += 2 if text[index] == "\\" else 1
    return False


def unescaped(text: str) -> str:
    """A pattern without wildcards as the path that it stands for."""
    letters: list[str] = []
    index = 0
    while index < len(text):
        if text[index] == "\\" and index + 1 < len(text):
            index += 1
        letters.append(text[index])
        index += 1
    return "".join(letters)


def cleaned(path: str) -> str:
    """A path from the root without `.`, `..`, doubled and last slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


@dataclass(frozen=True)
class _Letters:
    """A set of letters; as a loop it may be read any number of times."""

    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = True
    slash: bool = False
    """Whether '/' is one of them; it is in no class."""

    def has(self, letter: str) -> bool:
        if letter == "/":
            return self.slash
        return any(low <= letter <= high for low, high in self.ranges) != self.negated


_ANY_BUT_SLASH: Final = _Letters()
_ANY: Final = _Letters(slash=True)
_SLASH: Final = _Letters(negated=False, slash=True)


class PathPattern:
    """One compiled pattern. Raises UserFailure for one that Go's filepath.Match refuses."""

    def __init__(self, text: str, *, deep: bool = False) -> None:
        """`deep`: `**` crosses folders."""
        if len(text) > _MOST:
            raise UserFailure(f"the pattern {shown(text)} is longer than {_MOST} letters")
        self.text = text
        self._steps: dict[int, list[tuple[_Letters, int]]] = {}
        """State -> what it reads, and the state after it."""
        self._free: dict[int, tuple[int, ...]] = {}
        """State -> states that are reached without a letter."""
        self._last = 0
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._compile(text, deep=deep)

    def matches(self, path: str) -> bool:
        return self._last in self._read(path)

    def may_match_below(self, folder: str) -> bool:
        """Whether a path inside this folder can match."""
        return bool(self._read(folder + "/"))

    def _read(self, text: str) -> frozenset[int]:
        states = self._closed({0})
        for letter in text:
            states = self._after(states, letter)
            if not states:
                break
        return states

    def _after(self, states: frozenset[int], letter: str) -> frozenset[int]:
        key = (states, letter)
        known = self._known.get(key)
        if known is None:
            reached = {
                after for state in states for letters, after in self._steps.get(state, ()) if letters.has(letter)
            }
            known = self._closed(reached)
            if len(self._known) < _KNOWN:
                self._known[key] = known
        return known

    def _closed(self, states: set[int]) -> frozenset[int]:
        pending = list(states)
        while pending:
            for after in self._free.get(pending.pop(), ()):
                if after not in states:
                    states.add(after)
                    pending.append(after)
        return frozenset(states)

    def _compile(self, text: str, *, deep: bool) -> None:
        index = 0
        while index < len(text):
            letter = text[index]
            if letter == "*" and deep and text[index + 1 : index + 2] == "*":
                index = self._deep(text, index)
            elif letter == "*":
                self._step(_ANY_BUT_SLASH, self._last)
                index += 1
            elif letter == "[":
                letters, index = self._class(text, index + 1)
                self._next(letters)
            else:
                if letter == "\\":
                    index += 1
                self._next(_ANY_BUT_SLASH if letter == "?" else _only(self._letter(text, index)))
                index += 1

    def _step(self, letters: _Letters, after: int) -> None:
        self._steps.setdefault(self._last, []).append((letters, after))

    def _next(self, letters: _Letters) -> None:
        self._step(letters, self._last + 1)
        self._last += 1

    def _deep(self, text: str, index: int) -> int:
        """`**`, and the slash after it."""
        rest = text[index + 2 :]
        if rest in ("", "/") or (index == 0 and rest[0] != "/" and not has_wildcards(rest) and "\\" not in rest):
            self._step(_ANY, self._last)
        else:  # any folders with their slashes, or none
            start = self._last
            self._last += 1
            self._step(_ANY, self._last)
            self._next(_only("/"))
            self._free[start] = (start + 1, self._last)
        return index + 2 + rest.startswith("/")

    def _class(self, text: str, index: int) -> tuple[_Letters, int]:
        negated = text[index : index + 1] == "^"
        index += negated
        ranges: list[tuple[str, str]] = []
        while not (ranges and text[index : index + 1] == "]"):
            low, index = self._class_letter(text, index)
            high = low
            if text[index : index + 1] == "-":
                high, index = self._class_letter(text, index + 1)
            ranges.append((low, high))
        return _Letters(tuple(ranges), negated=negated), index + 1

    def _class_letter(self, text: str, index: int) -> tuple[str, int]:
        letter = self._letter(text, index)
        if letter in "-]":
            raise self._bad()
        if letter == "\\":
            index += 1
            letter = self._letter(text, index)
        return letter, index + 1

    def _letter(self, text: str, index: int) -> str:
        if index >= len(text):
            raise self._bad()
        return text[index]

    def _bad(self) -> UserFailure:
        return UserFailure(f"syntax error in pattern '{shown(self.text)}': a '[' in a name is written '[[]'")


@dataclass(frozen=True)
class _Rule:
    """A line of an ignore file; an exception starts with `!`."""

    pattern: PathPattern
    is_exception: bool


class PatternList:
    """Patterns of which the last that matches a path decides; `!` begins one that takes paths out again.

    A path below a folder that a pattern matches is matched by it too.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._rules: list[_Rule] = []
        for text in (text.strip() for text in texts):
            if not text:
                continue
            clean = posixpath.normpath(text)
            if clean == "!":
                raise UserFailure('illegal exclusion pattern: "!"')
            is_exception = clean.startswith("!")
            self._rules.append(
                _Rule(PathPattern(clean.removeprefix("!") if is_exception else clean, deep=True), is_exception)
            )
        self.has_exceptions = any(rule.is_exception for rule in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, path: str, above: tuple[bool, ...] = ()) -> tuple[bool, tuple[bool, ...]]:
        """Whether the patterns match a path, and what match() needs for paths below it: `above` of the folder."""
        matched = False
        each: list[bool] = []
        for number, rule in enumerate(self._rules):
            found = (bool(above) and above[number]) or rule.pattern.matches(path)
            each.append(found)
            if found:
                matched = not rule.is_exception
        return matched, tuple(each)

    def may_match_below(self, folder: str) -> bool:
        """Whether a path inside a folder, which is not matched itself, can match."""
        return any(not rule.is_exception and rule.pattern.may_match_below(folder) for rule in self._rules)


def _only(letter: str) -> _Letters:
    return _SLASH if letter == "/" else _Letters(((letter, letter),), negated=False)
