"""`RUN --mount=...`: its members by name. Pure."""

from __future__ import annotations

import csv
import string
from dataclasses import replace
from typing import Any, Final

from imagesmith.dockerfiles.go_values import is_size
from imagesmith.dockerfiles.model import RunMount, Token
from imagesmith.dockerfiles.statement import InstructionLine
from imagesmith.dockerfiles.words import Word
from imagesmith.documents.fields import suggestion

MOUNT_KINDS: Final = ("bind", "cache", "tmpfs", "secret", "ssh")
_ALIASES: Final = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite",
}  # fmt: skip
_MEMBERS: Final = {
    "type": "kind", "from": "image", "source": "source", "target": "target", "id": "id", "sharing": "sharing",
    "required": "required", "size": "size", "mode": "mode", "uid": "uid", "gid": "gid", "env": "env",
    "readonly": "read_only", "readwrite": "read_only",
}  # fmt: skip
_ALONE: Final = frozenset({"readonly", "readwrite", "required"})
_ONLY_FOR: Final = {
    "size": ("tmpfs",), "sharing": ("cache",), "required": ("secret", "ssh"), "env": ("secret",),
    "mode": ("cache", "secret", "ssh"), "uid": ("cache", "secret", "ssh"), "gid": ("cache", "secret", "ssh"),
    "from": ("bind", "cache", "tmpfs", "ssh"),
}  # fmt: skip
_MOST_ID: Final = 2**31 - 1
_MOST_DIGITS: Final = 11
_NUMBERS: Final = {"mode": (8, 0o7777), "uid": (10, _MOST_ID), "gid": (10, _MOST_ID)}
"""Members that are numbers: the base, and the greatest that the kernel obeys; -1 as an owner means no change."""
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_SHARING: Final = ("shared", "private", "locked")


def parse_mount(statement: InstructionLine, word: Word) -> RunMount | None:
    """One mount; None when something is wrong with it, which is told.

    Values that hold a variable are not looked into: they are known where the variables are, see expanded_mount().
    """
    reader = _MountReader(statement.token(word))
    mount = reader.read()
    for message, offset, hint in reader.problems:
        statement.report("mount", message, word.offset + offset, hint)
    return mount


def expanded_mount(mount: RunMount, text: str) -> RunMount:
    """The mount with its text after variables were replaced. Raises ValueError in words."""
    if text == mount.token.text:
        return mount
    reader = _MountReader(replace(mount.token, text=text))
    found = reader.read()
    if found is None:
        raise ValueError(reader.problems[0][0])
    if found.image != mount.image or found.kind != mount.kind:
        raise ValueError("a variable cannot contain the members 'type' and 'from' of a mount")
    return replace(found, token=mount.token)


class _MountReader:
    """Reads the text of one mount; `problems`: what is wrong, at which offset in it, and a hint."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._text = token.text
        self.problems: list[tuple[str, int, str]] = []

    def read(self) -> RunMount | None:
        try:
            fields = next(csv.reader([self._text], strict=True), [])
        except csv.Error:
            self.problems.append(("the quotes of this mount do not match", 0, ""))
            return None
        mount = RunMount(self._token, "bind")
        given: dict[str, str] = {}
        for field in fields:
            found = self._member(field)
            if found is not None:
                name, value = found
                given[name] = field
                mount = replace(mount, **{_MEMBERS[name]: value})
        for name, field in given.items():
            if not self.problems and mount.kind not in _ONLY_FOR.get(name, MOUNT_KINDS):
                self._report(f"a mount of type {mount.kind} has no '{name}'", field)
        if not self.problems and mount.kind == "secret" and not (mount.source or mount.target or mount.id):
            self.problems.append(("a mount of type secret needs an id", 0, ""))
        return None if self.problems else mount

    def _report(self, message: str, field: str, hint: str = "") -> None:
        self.problems.append((message, max(self._text.find(field), 0), hint))

    def _member(self, field: str) -> tuple[str, Any] | None:
        key, separator, value = field.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if name not in _MEMBERS:
            self._report(f"a mount has no member '{key[:40]}'", field, suggestion(name, _MEMBERS))
            return None
        if not separator and name not in _ALONE:
            self._report(f"the member '{name}' of a mount has no value", field, f"write {name}=VALUE")
            return None
        if name in _ALONE:
            told = _BOOLEANS.get(value) if separator else True
            if told is None:
                self._report(f"'{name}' is true or false, not '{value[:40]}'", field)
                return None
            return name, told != (name == "readwrite")
        problem = _value_problem(name, value)
        if problem:
            self._report(problem, field)
            return None
        return name, value.lower() if name in ("type", "sharing") else value


def _value_problem(name: str, value: str) -> str:
    if name == "from" and "$" in value:
        return "'from' of a mount cannot hold a variable; give a stage that is FROM it, and name the stage"
    if "$" in value and name not in ("type", "sharing"):
        return ""
    if name == "type" and value.lower() not in MOUNT_KINDS:
        return f"'{value[:40]}' is not a type of a mount; use {', '.join(MOUNT_KINDS[:-1])} or {MOUNT_KINDS[-1]}"
    if name == "sharing" and value.lower() not in _SHARING:
        return f"'{value[:40]}' is not a way of sharing; use shared, private or locked"
    if name == "size" and not is_size(value):
        return f"'{value[:40]}' is not a size"
    if name in _NUMBERS:
        base, most = _NUMBERS[name]
        digits = string.digits[:base]
        if not value or len(value) > _MOST_DIGITS or value.strip(digits) or int(value, base) > most:
            greatest = f"{most:04o}" if base == 8 else str(most)
            kind = "an octal number" if base == 8 else "a number"
            return f"'{value[:40]}' cannot be the {name} of a mount: it is {kind}, {greatest} at most"
    return ""
