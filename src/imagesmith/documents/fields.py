"""Typed fields of a mapping: conversion by the type the field expects, every defect collected.

`Fields` is made once per mapping; each method reads one key and reports what is wrong with it. A missing optional
key and a wrong one both give the default, so that checking goes on to the end of the document.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, kind_of
from imagesmith.values.diagnostics import Position, Problem

_INTEGER = re.compile(r"-?[0-9]+\Z")
_INTEGER_DIGITS = 18
_MOST_SUGGESTED = 100
"""A hostile document repeats unknown names; comparing each with thousands of others takes seconds."""


def integer_of(text: str) -> int | None:
    """`-?[0-9]+`, at most 18 digits; None otherwise."""
    return int(text) if _INTEGER.match(text) and len(text) <= _INTEGER_DIGITS else None


def boolean_of(text: str) -> bool | None:
    """`true` or `false` in any letter case; None otherwise."""
    return {"true": True, "false": False}.get(text.lower())


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint that names the likely intended word, or the known ones; empty when there are too many to compare."""
    names = sorted(known)
    if len(names) > _MOST_SUGGESTED:
        return ""
    close = difflib.get_close_matches(word[:80], names, n=1)
    if not close:
        close = [name for name in names if name.lower() == word.lower()]
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known here: {', '.join(names)}" if len(names) <= 12 else ""


class Fields:
    """The keys of one mapping. `subject` begins messages, such as `step 'Install'`."""

    def __init__(self, node: MapNode, problems: list[Problem], subject: str) -> None:
        self.node = node
        self.subject = subject
        self._problems = problems

    def problem(self, code: str, message: str, place: Node | Position | None = None, hint: str = "") -> None:
        """Report something about these fields; `place` is a node or a position, by default the mapping itself."""
        where = self.node if place is None else place
        position = where if isinstance(where, Position) else where.position
        self._problems.append(Problem(code, f"{self.subject}: {message}", position, hint))

    def known(self, names: Sequence[str]) -> None:
        """Report every key that is not one of these."""
        for key, _ in self.node.entries:
            if key.text not in names:
                self.problem(
                    "unknown-key", f"unknown key '{key.text[:80]}'", key.position, suggestion(key.text, names)
                )

    def required(self, key: str) -> Node | None:
        value = self.node.get(key)
        if value is None:
            name = self.node.key(key)
            self.problem("missing-key", f"'{key}' is required", name)
        return value

    def scalar(self, key: str, *, required: bool = False) -> ScalarNode | None:
        value = self.required(key) if required else self.node.get(key)
        if value is None or isinstance(value, ScalarNode):
            return value
        hint = "quote a value that begins with {{" if isinstance(value, MapNode) else ""
        self.problem("wrong-type", f"'{key}' must be a text, it is {kind_of(value)}", value.position, hint)
        return None

    def text(self, key: str, default: str = "") -> str:
        value = self.scalar(key)
        return default if value is None else value.text

    def choice(self, key: str, choices: Sequence[str], *, default: str) -> str:
        value = self.scalar(key)
        if value is None:
            return default
        if value.text not in choices:
            self.problem(
                "wrong-value",
                f"'{key}' is '{value.text[:80]}', expected {' or '.join(choices)}",
                value.position,
                suggestion(value.text, choices) if value.text not in choices else "",
            )
            return default
        return value.text

    def integer(self, key: str, *, default: int) -> int:
        value = self.scalar(key)
        if value is None:
            return default
        number = integer_of(value.text)
        if number is None:
            self.problem("wrong-type", f"'{key}' must be an integer, it is '{value.text[:80]}'", value.position)
            return default
        return number

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self.scalar(key)
        if value is None:
            return default
        flag = boolean_of(value.text)
        if flag is None:
            self.problem("wrong-type", f"'{key}' must be true or false, it is '{value.text[:80]}'", value.position)
            return default
        return flag

    def mapping(self, key: str, *, required: bool = False) -> MapNode | None:
        value = self.required(key) if required else self.node.get(key)
        if value is None or isinstance(value, MapNode):
            return value
        self.problem("wrong-type", f"'{key}' must be a mapping, it is {kind_of(value)}", value.position)
        return None

    def sequence(self, key: str, *, required: bool = False) -> ListNode | None:
        value = self.required(key) if required else self.node.get(key)
        if value is None or isinstance(value, ListNode):
            return value
        self.problem("wrong-type", f"'{key}' must be a list, it is {kind_of(value)}", value.position)
        return None
