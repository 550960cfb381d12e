"""Typed fields of a mapping: conversion to the expected type, all defects collected.

`Fields` is made once per mapping; each method reads one key and reports its defects. A missing optional key and a
wrong one both result in the default, so that checking continues to the end of the document.
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
"""A hostile document may repeat unknown names; comparing each with thousands of others takes seconds."""


def integer_of(text: str) -> int | None:
    """`-?[0-9]+`, at most 18 digits; None otherwise."""
    return int(text) if _INTEGER.match(text) and len(text) <= _INTEGER_DIGITS else None


def boolean_of(text: str) -> bool | None:
    """`true` or `false` in any letter case; None otherwise."""
    return {"true": True, "false": False}.get(text.lower())


def boolean_hint(text: str) -> str:
    """The replacement of a word that other YAML parsers read as a boolean."""
    meant = {"yes": "true", "on": "true", "y": "true", "1": "true", "no": "false", "off": "false", "n": "false"}
    word = "false" if text == "0" else meant.get(text.lower(), "")
    return f"write {word}" if word else ""


def _list_hint(list_key: str, value: Node) -> str:
    """A hint about the first character of list entries, for a mapping or a text."""
    if isinstance(value, ScalarNode) and value.text.startswith("-"):
        return "write a space after each '-'"
    if not isinstance(value, MapNode) or not value.entries:
        return "begin each entry with '- '"
    key, content = value.entries[0]
    if list_key in ("parameters", "constants") or (
        isinstance(content, MapNode) and content.get("type") is not None
    ):
        return f"begin each entry with '- ', as in '- {key.text[:40]}:'"
    name = content.text if key.text == "name" and isinstance(content, ScalarNode) else key.text
    return f"begin each entry with '- ', as in '- name: {name[:40]}'"


def close_word(word: str, known: Iterable[str]) -> str:
    """The likely intended word, letter case aside; empty when none is close, or when there are too many."""
    names = sorted(known)
    if len(names) > _MOST_SUGGESTED:
        return ""
    same = [name for name in names if name.lower() == word.lower()]
    return next(iter(same or difflib.get_close_matches(word[:80], names, n=1)), "")


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint that names the likely intended word, or the known ones; empty when there are too many to compare."""
    names = sorted(known)
    if len(names) > _MOST_SUGGESTED:
        return ""
    close = close_word(word, names)
    if close:
        return f"did you mean '{close}'?"
    return f"known here: {', '.join(names)}" if len(names) <= 12 else ""


class Fields:
    """The keys of one mapping. `subject` begins messages, such as `step 'Install'`."""

    def __init__(self, node: MapNode, problems: list[Problem], subject: str) -> None:
        self.node = node
        self.subject = subject
        self._problems = problems

    def problem(self, code: str, message: str, at: Node | Position | None = None, hint: str = "") -> None:
        """Report something about these fields; `at` is a node or a position, by default the mapping itself."""
        where = self.node if at is None else at
        position = where if isinstance(where, Position) else where.position
        self._problems.append(Problem(code, f"{self.subject}: {message}", position, hint))

    def check_keys(self, names: Sequence[str]) -> None:
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
        self.problem("wrong-type", f"'{key}' must be a string, not {kind_of(value)}", value.position, hint)
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
            self.problem("wrong-type", f"'{key}' must be an integer, not '{value.text[:80]}'", value.position)
            return default
        return number

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self.scalar(key)
        if value is None:
            return default
        flag = boolean_of(value.text)
        if flag is None:
            message = f"'{key}' must be true or false, not '{value.text[:80]}'"
            self.problem("wrong-type", message, value.position, boolean_hint(value.text))
            return default
        return flag

    def mapping(self, key: str, *, required: bool = False) -> MapNode | None:
        value = self.required(key) if required else self.node.get(key)
        if value is None or isinstance(value, MapNode):
            return value
        self.problem("wrong-type", f"'{key}' must be a mapping, not {kind_of(value)}", value.position)
        return None

    def sequence(self, key: str, *, required: bool = False) -> ListNode | None:
        value = self.required(key) if required else self.node.get(key)
        if value is None or isinstance(value, ListNode):
            return value
        message = f"'{key}' must be a list, not {kind_of(value)}"
        self.problem("wrong-type", message, value.position, _list_hint(key, value))
        return None
