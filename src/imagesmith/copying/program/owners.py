"""`--chown`: users and groups by numbers, or by names of the target's own tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imagesmith.copying.program.failures import UserFailure, shown
from imagesmith.copying.program.roots import RootFolder

_USERS: Final = "/etc/passwd"
_GROUPS: Final = "/etc/group"
_MOST: Final = 2**32 - 2


@dataclass(frozen=True)
class Owner:
    """Ids of a user and a group."""

    uid: int
    gid: int


ROOT_OWNER: Final = Owner(0, 0)


def find_owner(text: str, target: RootFolder, *, names: bool = True) -> Owner:
    """The owner that `user[:group]` names; without a group it is the user's, by number the same number.

    `names`: whether the target's tables may be read. Raises UserFailure.
    """
    user, colon, group = text.partition(":")
    if not names and not all(not word or _is_number(word) for word in (user, group)):
        raise UserFailure(
            f"--chown={shown(text)} with --link needs numbers: the files go into an empty folder, where no user "
            "has a name; write --chown=1000:1000, or leave out --link"
        )
    uid, gid = _user(user, target)
    if colon and group:
        gid = _number(group) if _is_number(group) else _lookup(group, _GROUPS, "group", target)[0]
    return Owner(uid, gid)


def _user(user: str, target: RootFolder) -> tuple[int, int]:
    if not user:
        return 0, 0
    if _is_number(user):
        return _number(user), _number(user)
    uid, gid = _lookup(user, _USERS, "user", target)
    return uid, gid


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _number(text: str) -> int:
    number = int(text[:20])
    if number > _MOST:
        raise UserFailure(f"{shown(text)} is not an id of a user or group: the largest is {_MOST}")
    return number


def _lookup(name: str, table: str, kind: str, target: RootFolder) -> tuple[int, int]:
    """The numbers in a line of the table; a group has its own number twice."""
    data = target.read(table)
    if data is None:
        raise UserFailure(f"no {kind} {shown(name)}: the image has no {table}; write the number of the {kind}")
    for line in data.decode(errors="surrogateescape").splitlines():
        fields = line.split(":")
        if fields[0] != name or len(fields) < 3 or not _is_number(fields[2].strip()):
            continue
        number = _number(fields[2].strip())
        second = fields[3].strip() if kind == "user" and len(fields) > 3 else ""
        return number, _number(second) if _is_number(second) else number
    raise UserFailure(
        f"no {kind} {shown(name)} in {table} of the image; add it with a RUN before, or write its number"
    )
