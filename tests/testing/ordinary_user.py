"""Runs a program as an ordinary user with subordinate ids, without a change to the machine's own users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import imagesmith

USER = 31337
NAME = "author"
FIRST_SUBORDINATE = 0x6FFF0000
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

_SCRIPT = """\
set -e
home=$1 users=$2 source=$3 tests=$4 packages=$5; shift 5
mount --make-rprivate /
for name in passwd group subuid subgid; do mount --bind "$users/$name" /etc/$name; done
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/home /mnt/source /mnt/tests /mnt/packages
# every user may open it on Debian; not in every container
if mknod /mnt/tun c 10 200; then chmod 0666 /mnt/tun; mount --bind /mnt/tun /dev/net/tun; fi
mount --bind "$packages" /mnt/packages
mount --bind "$home" /mnt/home; mount --bind "$source" /mnt/source; mount --bind "$tests" /mnt/tests
cd /mnt/home
exec setpriv --reuid {user} --regid {user} --clear-groups --inh-caps=-all -- env -i \\
    PATH={path} HOME=/mnt/home PYTHONPATH=/mnt/source:/mnt/tests:/mnt/packages "$@"
"""


def own_home(folder: Path) -> Path:
    """A home of the user."""
    home = folder / "home"
    home.mkdir()
    os.chown(home, USER, USER)
    return home


def run_as_user(
    argv: Sequence[str], home: Path, *, subordinate: bool = True, path: str = PATH
) -> subprocess.CompletedProcess[str]:
    """Run a program as a user; see words_as_user."""
    words = words_as_user(argv, home, subordinate=subordinate, path=path)
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def words_as_user(argv: Sequence[str], home: Path, *, subordinate: bool = True, path: str = PATH) -> list[str]:
    """A command that becomes a program of a user. It sees `home` as /mnt/home, our source as /mnt/source, the tests
    as /mnt/tests."""
    users = home.with_name(f"{home.name}-users")
    users.mkdir(exist_ok=True)
    for name, line in (("passwd", f"{NAME}:x:{USER}:{USER}::/mnt/home:/bin/sh"), ("group", f"{NAME}:x:{USER}:")):
        (users / name).write_text(Path("/etc", name).read_text() + line + "\n")
    for name in ("subuid", "subgid"):
        (users / name).write_text(f"{NAME}:{FIRST_SUBORDINATE}:65536\n" if subordinate else "")
    source = Path(imagesmith.__file__).parents[1]
    tests = Path(__file__).parents[1]
    script = _SCRIPT.format(user=USER, path=path)
    packages = Path(click.__file__).parents[1]
    places = [str(place) for place in (home, users, source, tests, packages)]
    return ["unshare", "--mount", "--", "sh", "-c", script, "sh", *places, *argv]


PYTHON = str(Path(sys.executable).resolve())
