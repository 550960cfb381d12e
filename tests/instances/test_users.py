"""The user that a text names, by the tables of an image."""

from __future__ import annotations

import tracemalloc

import pytest

from imagesmith.instances.command import Identity
from imagesmith.instances.users import UnknownUser, find_user

PASSWD = b"""\
# comment
root:x:0:0:root:/root:/bin/bash
 app:x:1000:1001::/home/app:/bin/sh
short:x:7
:x:8:8::/:
web:x:33:33:w:/var/www:/bin/sh:more:fields
\xff:x:9:9::/odd:
"""
GROUP = b"root:x:0:\napp:x:1001:\nstaff:x:50:app,web\nsudo:x:27:app\n"


@pytest.mark.parametrize(
    ("text", "identity", "home"),
    [
        ("", Identity(0, 0), "/root"),
        ("root", Identity(0, 0), "/root"),
        ("app", Identity(1000, 1001, (27, 50)), "/home/app"),
        ("1000", Identity(1000, 1001, (27, 50)), "/home/app"),
        ("app:staff", Identity(1000, 50), "/home/app"),
        ("app:70", Identity(1000, 70), "/home/app"),
        ("12345", Identity(12345, 0), "/"),
        ("12345:27", Identity(12345, 27), "/"),
        ("short", Identity(7, 0), "/"),
        ("web", Identity(33, 33, (50,)), "/var/www"),
        ("\udcff", Identity(9, 9), "/odd"),
    ],
)
def test_users_are_found_as_docker_finds_them(text: str, identity: Identity, home: str) -> None:
    """Names and numbers, with and without a group; lines may be short, long, comments or of any bytes."""
    user = find_user(text, passwd=PASSWD, group=GROUP)
    assert (user.identity, user.home) == (identity, home)


@pytest.mark.parametrize("text", ["nobody", "app:nobody", "4294967295", "1:4294967295"])
def test_unknown_users_are_refused(text: str) -> None:
    """A name without a line, and numbers that the kernel takes for no number."""
    with pytest.raises(UnknownUser):
        find_user(text, passwd=PASSWD, group=GROUP)


def test_large_tables_take_little_memory() -> None:
    """The table is read line by line: its fields are not held together."""
    table = b"a\n" * 400_000 + PASSWD
    tracemalloc.start()
    try:
        assert find_user("app", passwd=table, group=GROUP).identity.uid == 1000
        assert tracemalloc.get_traced_memory()[1] < 4 * len(table)
    finally:
        tracemalloc.stop()
