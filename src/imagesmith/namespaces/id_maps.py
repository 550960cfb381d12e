"""Which ids of the machine a user namespace has.

    a server that root started    one range of 65,536 ids for each build, from a table that all servers of the
                                  machine share: the kernel releases a range when its holder ends
    an ordinary user              the user's own id as 0, and the subordinate range of /etc/subuid from 1 on; all
                                  builds of the user share it

The default table lies between 1879048192 and 2147483646, which systemd's list of ids calls unused.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

SIZE = 65536
"""Ids of a namespace: 0 to 65535. An image with higher ones is refused."""
FIRST_ID = 0x70000000
MOST_RANGES = 1000
ID_TABLE = Path("/run/imagesmith/ids")
"""Where the servers of a machine share their ranges; a restart of the machine empties it."""


class NoIds(OSError):
    """There are no ids for a namespace; the text says what to change."""


@dataclass(frozen=True)
class IdRange:
    """`count` ids from `inside` on are the machine's from `outside` on."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True)
class IdMap:
    """The user and group ids of a namespace; `privileged`: root outside makes it."""

    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]
    privileged: bool


def user_ids(
    user: int, group: int, *, name: str, subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")
) -> IdMap:
    """The map of an ordinary user. Raises NoIds without a subordinate range."""
    users = _subordinate(subuid, name, user)
    groups = _subordinate(subgid, name, user)
    return IdMap(
        users=(IdRange(0, user, 1), IdRange(1, users, SIZE - 1)),
        groups=(IdRange(0, group, 1), IdRange(1, groups, SIZE - 1)),
        privileged=False,
    )


def own_ids() -> IdMap:
    """The map of the user of this process. Raises NoIds."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        raise NoIds(f"user {user} is not in /etc/passwd, and `newuidmap` needs a name there") from None
    return user_ids(user, os.getgid(), name=name)


def lease_range(table: Path, *, first: int = FIRST_ID, most: int = MOST_RANGES) -> tuple[IdMap, int]:
    """A range that no other namespace of the machine has, and the lock that holds it until its last copy is closed.

    `table`: a folder that all servers share. Raises NoIds when all are held.
    """
    table.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(most):
        start = first + number * SIZE
        descriptor = os.open(table / str(start), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        part = IdRange(0, start, SIZE)
        return IdMap(users=(part,), groups=(part,), privileged=True), descriptor
    raise NoIds(f"all {most} ranges of ids are held by running builds: wait for some to end")


def nested_ids(users: Path = Path("/proc/self/uid_map"), groups: Path = Path("/proc/self/gid_map")) -> IdMap | None:
    """The map of a namespace in the one of this process, with the same ids; None: this process has all ids of the
    machine, and a build gets a range of its own."""
    texts = [path.read_text() for path in (users, groups)]
    if any(text.split() == ["0", "0", "4294967295"] for text in texts):
        return None
    found = [
        tuple(
            IdRange(inside, inside, min(count, SIZE - inside))
            for inside, _, count in (map(int, line.split()) for line in text.splitlines())
            if inside < SIZE
        )
        for text in texts
    ]
    return IdMap(users=found[0], groups=found[1], privileged=False)


def _subordinate(path: Path, name: str, user: int) -> int:
    """The first id of a range of at least 65,535 that a user may map."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        owner, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        known = owner in (name, str(user)) and start.isdecimal() and count.strip().isdecimal()
        if known and int(count) >= SIZE - 1:
            return int(start)
    raise NoIds(
        f"{path} has no range of {SIZE} ids for {name}: as root, "
        f"`usermod --add-sub{'u' if 'uid' in path.name else 'g'}ids FIRST-LAST {name}` adds one"
    )
