"""Containers on a real hierarchy of control groups version 2, mounted for one program where the machine's own is.

The controllers may belong to version 1 on this machine; then the limits are missing and named, and freezing and
killing work all the same. Limits of version 2 are tried in a guest (`machine/test_machine_system.py`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from testing.leaks import wait_until_gone

pytestmark = pytest.mark.tool

_MOUNTED = 'mount --make-rprivate / && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
_BEGIN = """
import json, sys
from pathlib import Path
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.isolation import private_mounts
from imagesmith.instances.limits import leftover_groups
from imagesmith.instances.leftovers import remove_left_instances

private_mounts()
storage, image, frozen = ContainerStorage.open(Path(sys.argv[1])), sys.argv[2], sys.argv[3]

def begin():
    instance = ContainerInstance.launch(storage, image, name="of-version-2", network="none")
    instance.run(Command(["/bin/sh", "-c", "setsid sleep 6262 </dev/null >/dev/null 2>&1 &"]))
    (group,) = leftover_groups(storage.key)
    members = (group / "main/cgroup.procs").read_text().split()
    words = [Path("/proc", pid, "cmdline").read_bytes().replace(b"\\0", b" ").decode() for pid in members]
    assert any("sleep 6262" in text for text in words), words
    (group / frozen / "cgroup.freeze").write_text("1")
    while "frozen 1" not in (group / frozen / "cgroup.events").read_text():
        pass
    return instance
"""
CLOSED = "begin().close()\nprint(json.dumps([str(place) for place in leftover_groups(storage.key)]))\n"
KILLED = 'instance = begin()\nprint("frozen", flush=True)\nsys.stdin.read()\n'
SWEPT = """
before = leftover_groups(storage.key)
remove_left_instances(storage)
print(json.dumps([len(before), [str(place) for place in leftover_groups(storage.key)]]))
"""


def argv_of(program: str, storage: ContainerStorage, image: str, frozen: str) -> list[str]:
    words = [sys.executable, "-c", _BEGIN + program, str(storage.root), image, frozen]
    return ["unshare", "--mount", "sh", "-c", _MOUNTED, "sh", *words]


def printed(argv: list[str]) -> Any:
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


FROZEN = pytest.mark.parametrize("frozen", [".", "main"])
"""The group of the limits, and the one below it that holds the processes."""


@FROZEN
def test_a_frozen_container_closes(container_storage: ContainerStorage, tiny_image: str, frozen: str) -> None:
    """Its processes end and its groups go, whichever of them was frozen."""
    assert printed(argv_of(CLOSED, container_storage, tiny_image, frozen)) == []
    assert wait_until_gone("sleep 6262") == []
    assert container_storage.containers() == ()


@FROZEN
def test_a_frozen_container_of_a_killed_server_ends_with_the_sweep(
    container_storage: ContainerStorage, tiny_image: str, frozen: str
) -> None:
    """Nothing thaws it after `kill -9` but the next start."""
    argv = argv_of(KILLED, container_storage, tiny_image, frozen)
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert server.stdout is not None and server.stderr is not None
    assert server.stdout.readline() == b"frozen\n", server.stderr.read().decode()
    server.send_signal(signal.SIGKILL)
    server.communicate()
    assert printed(argv_of(SWEPT, container_storage, tiny_image, frozen)) == [1, []]
    assert wait_until_gone("sleep 6262", "of-version-2") == []
    assert container_storage.containers() == ()
