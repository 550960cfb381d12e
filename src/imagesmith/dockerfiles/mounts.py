"""`RUN --mount=...`: its members by name. Pure."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from typing import Any, Final

from imagesmith.dockerfiles.go_values import is_size
from imagesmith.dockerfiles.model import RunMount
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
_NUMBERS: Final = {"mode": re.compile(r"[0-7]{1,11}\Z"), "uid": re.compile(r"[0-9]{1,10}\Z")}
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_SHARING: Final = ("shared", "private", "locked")


def parse_mount(statement: InstructionLine, word: Word) -> RunMount | None:
    """One mount; None when something is wrong with it, which is told.

    A mount that holds a variable is not looked into: its members are known only where the variables are.
    """
    if "$" in word.text:
        return RunMount(statement.token(word), "")
    try:
        fields = next(csv.reader([word.text], strict=True), [])
    except csv.Error:
        statement.tell("mount", "the quotes of this mount do not match", word.offset)
        return None
    mount = RunMount(statement.token(word), "bind")
    given: dict[str, str] = {}
    failed = False
    for field in fields:
        found = _member(statement, word, field)
        if found is None:
            failed = True
            continue
        name, value = found
        given[name] = field
        mount = replace(mount, **{_MEMBERS[name]: value})
    for name, field in given.items():
        kinds = _ONLY_FOR.get(name, MOUNT_KINDS)
        if not failed and mount.kind not in kinds:
            message = f"a mount of type {mount.kind} has no '{name}'"
            statement.tell("mount", message, word.offset + max(word.text.find(field), 0))
            failed = True
    if not failed and mount.kind == "secret" and not (mount.source or mount.target or mount.id):
        statement.tell("mount", "a mount of type secret needs an id", word.offset)
        failed = True
    return None if failed else mount


def _member(statement: InstructionLine, word: Word, field: str) -> tuple[str, Any] | None:
    key, separator, value = field.partition("=")
    name = _ALIASES.get(key.lower(), key.lower())
    offset = word.offset + max(word.text.find(field), 0)
    if name not in _MEMBERS:
        hint = suggestion(name, _MEMBERS)
        statement.tell("mount", f"a mount has no member '{key[:40]}'", offset, hint)
        return None
    if not separator and name not in _ALONE:
        statement.tell("mount", f"the member '{name}' of a mount has no value", offset, f"write {name}=VALUE")
        return None
    if name in _ALONE:
        told = _BOOLEANS.get(value) if separator else True
        if told is None:
            statement.tell("mount", f"'{name}' is true or false, not '{value[:40]}'", offset)
            return None
        return name, told != (name == "readwrite")
    problem = _value_problem(name, value)
    if problem:
        statement.tell("mount", problem, offset)
        return None
    return name, value.lower() if name in ("type", "sharing") else value


def _value_problem(name: str, value: str) -> str:
    if name == "type" and value.lower() not in MOUNT_KINDS:
        return f"'{value[:40]}' is not a type of a mount; use {', '.join(MOUNT_KINDS[:-1])} or {MOUNT_KINDS[-1]}"
    if name == "sharing" and value.lower() not in _SHARING:
        return f"'{value[:40]}' is not a way of sharing; use shared, private or locked"
    if name == "size" and not is_size(value):
        return f"'{value[:40]}' is not a size"
    pattern = _NUMBERS.get("uid" if name == "gid" else name)
    if pattern is not None and not pattern.match(value):
        return f"'{value[:40]}' cannot be the {name} of a mount"
    return ""
