"""What packages say of their licences, as SPDX expressions. Pure; nothing of an image is taken at its word blindly.

    names.py     one name, as Debian, rpm, Python and npm write it --> an SPDX id, or a LicenseRef of our own
    __init__     an expression of names, and, or, with, commas     --> an SPDX expression
    debian.py    a copyright file                                  --> an SPDX expression

A name that is not known stays visible as `LicenseRef-<name>`: a document must not claim a licence that nobody
stated, nor leave out one that was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imagesmith.inspection.licenses.names import spdx_exception, spdx_name

MAX_EXPRESSION = 1024
"""Most characters of an expression; a longer one is unknown."""
_MAX_NAMES = 64
_WORDS = re.compile(r"\s*(\(|\)|,(?:\s*(?:and|or)\b)?|[^\s(),]+)", re.IGNORECASE)
_LATER = re.compile(r"\s+or(?: any)? (?:later|newer)(?: versions?)?\b", re.IGNORECASE)
"""Words of a name, not an operator."""
_VERSION = re.compile(r",\s*(?=v(?:ersion\b|\.?\s*[0-9]))", re.IGNORECASE)
"""A comma in a name: `Apache License, Version 2.0`."""
_OPERATORS = {"and": "AND", "or": "OR", "&": "AND", "|": "OR", "/": "OR", "&&": "AND", "||": "OR"}


def expression_of(text: str) -> str:
    """The SPDX expression of a statement such as `GPL-2+ or (MIT and BSD-3-clause)`; empty for one that states
    nothing, or that is no expression.

    A comma separates as in Debian's format: `A or B, and C` is `(A OR B) AND C`.
    """
    if not text.strip() or len(text) > MAX_EXPRESSION:
        return ""
    try:
        return _Parser(_WORDS.findall(_LATER.sub("-or-later", _VERSION.sub(" ", text)))).whole()
    except _NotAnExpression:
        return ""


def all_of(expressions: Iterable[str]) -> str:
    """The expression of a package with parts under each of these; empty without any, or beyond the limit."""
    stated = list(dict.fromkeys(item for item in expressions if item))
    if len(stated) == 1:
        return stated[0]
    parts = {part for item in stated for part in ([f"({item})"] if _split(item, "OR")[1:] else _split(item, "AND"))}
    joined = " AND ".join(sorted(parts))
    return joined if len(joined) <= MAX_EXPRESSION else ""


def references_in(expression: str) -> frozenset[str]:
    """The `LicenseRef-` names of an expression."""
    return frozenset(word for word in re.split(r"[\s()]+", expression) if word.startswith("LicenseRef-"))


class _NotAnExpression(ValueError):
    """A text without the form of an expression."""


class _Parser:
    """Names and operators: `,` binds weakest, then or, then and, then with."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0
        if len(words) > 4 * _MAX_NAMES:
            raise _NotAnExpression

    def whole(self) -> str:
        found = self._list()
        if self._at != len(self._words):
            raise _NotAnExpression
        # brackets around all of it
        while found.startswith("(") and _is_balanced(found[1:-1]):
            found = found[1:-1]
        return found

    def _next(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _list(self) -> str:
        parts, operator = [self._alternatives()], "AND"
        while self._next().startswith(","):
            operator = "OR" if self._next().lower().endswith("or") else operator
            self._at += 1
            parts.append(self._alternatives())
        return _joined(parts, operator)

    def _alternatives(self) -> str:
        parts = [self._conjunction()]
        while _OPERATORS.get(self._next().lower()) == "OR":
            self._at += 1
            parts.append(self._conjunction())
        return _joined(parts, "OR")

    def _conjunction(self) -> str:
        parts = [self._one()]
        while _OPERATORS.get(self._next().lower()) == "AND":
            self._at += 1
            parts.append(self._one())
        return _joined(parts, "AND")

    def _one(self) -> str:
        if self._next() == "(":
            self._at += 1
            inner = self._list()
            if self._next() != ")":
                raise _NotAnExpression
            self._at += 1
            return f"({inner})" if " " in inner else inner
        name = self._name()
        if not name:
            raise _NotAnExpression
        if self._next().lower() != "with":
            return spdx_name(name)
        self._at += 1
        exception = self._name()
        if not exception:
            raise _NotAnExpression
        known = spdx_exception(exception)
        # an exception that SPDX does not know cannot stand behind WITH
        return f"{spdx_name(name)} WITH {known}" if known else spdx_name(f"{name} with {exception}")

    def _name(self) -> str:
        """The words up to an operator: names of rpm and Python have blanks."""
        words: list[str] = []
        while (word := self._next()) and word not in "()" and not word.startswith(","):
            if word.lower() in _OPERATORS or word.lower() == "with":
                break
            words.append(word)
            self._at += 1
        return " ".join(words)


def _joined(parts: list[str], operator: str) -> str:
    unique = list(dict.fromkeys(parts))
    if len(unique) == 1:
        return unique[0]
    other = "OR" if operator == "AND" else "AND"
    return f" {operator} ".join(f"({part})" if _split(part, other)[1:] else part for part in unique)


def _split(expression: str, operator: str) -> list[str]:
    """The operands of the operators outside brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in expression.split(" "):
        if word == operator and depth == 0:
            parts.append([])
            continue
        depth += word.count("(") - word.count(")")
        parts[-1].append(word)
    return [" ".join(words) for words in parts]


def _is_balanced(text: str) -> bool:
    """Whether each bracket closes one that was opened before it."""
    depth = 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return False
    return depth == 0
