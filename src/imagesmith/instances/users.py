"""The user that a text like `name`, `1000` or `name:group` names, by the tables of an image. Pure.

The rules are those of USER in Docker: a number needs no line in a table, a name does. A user without a group has
the group of its line, and those groups that list it as a member.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imagesmith.instances.command import Identity
from imagesmith.namespaces.id_maps import SIZE

_MOST: Final = SIZE - 1
_MOST_GROUPS: Final = 1000
_SHOWN: Final = 80


class UnknownUser(ValueError):
    """A text that names no user or group; the error says which, and what to write."""


@dataclass(frozen=True)
class User:
    """The numbers of a user, and its home folder."""

    identity: Identity
    home: str


def find_user(text: str, *, passwd: bytes, group: bytes) -> User:
    """The user of a text; empty: root. `passwd`, `group`: the tables, or nothing. Raises UnknownUser."""
    name, _, group_name = text.partition(":")
    name = name or "0"
    number = _number(name)
    line = next((line for line in _lines(passwd) if _is_user(line, name, number)), None)
    if line is None and number is None:
        raise UnknownUser(
            f"there is no user '{name[:_SHOWN]}' in /etc/passwd of the image; add it in a RUN, or write its number"
        )
    uid = _bounded(number, name) if line is None else _bounded(_number(line[2]), name)
    gid = 0 if line is None else _bounded(_number(line[3]) or 0, name)
    home = (line[5] if line else "") or ("/root" if uid == 0 else "/")
    if group_name:
        return User(Identity(uid, _group(group_name, group)), home)
    member = line[0] if line else ""
    others = [_number(row[2]) for row in _lines(group) if member and member in row[3].split(",")]
    found = sorted({number for number in others if number is not None and number <= _MOST})
    return User(Identity(uid, gid, tuple(found[:_MOST_GROUPS])), home)


def _group(name: str, table: bytes) -> int:
    number = _number(name)
    for line in _lines(table):
        if line[0] == name or (number is not None and _number(line[2]) == number):
            return _bounded(_number(line[2]), name)
    if number is None:
        raise UnknownUser(
            f"there is no group '{name[:_SHOWN]}' in /etc/group of the image; add it in a RUN, or write its number"
        )
    return _bounded(number, name)


def _lines(table: bytes) -> Iterator[list[str]]:
    """The fields of one line after the other, seven each. The table is the image's: it is not copied as a whole."""
    for data in io.BytesIO(table):
        line = data.decode(errors="surrogateescape").strip()
        if line and not line.startswith((":", "#")):
            yield [*line.split(":", 7), *[""] * 7][:7]


def _is_user(line: list[str], name: str, number: int | None) -> bool:
    known = _number(line[2])
    return known is not None and (line[0] == name or (number is not None and known == number))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def _bounded(number: int | None, name: str) -> int:
    if number is None or number > _MOST:
        raise UnknownUser(
            f"'{name[:_SHOWN]}' is not a number of a user or group: the greatest of a build is {_MOST}"
        )
    return number
