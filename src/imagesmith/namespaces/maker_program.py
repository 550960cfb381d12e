"""Makes user namespaces, and what only a process inside one can make; runs alone (see maker.py).

    python -I -S maker_program.py CONTROL
                                  sequential packets: a request with descriptors, an answer with a descriptor

    {"do": "make", "uid": [[inside, outside, count]], "gid": [...]}              -->  a user namespace
    {"do": "overlay", "folder": ..., "options": ...}  namespace, tree            -->  a detached mount
        the overlay in a folder of the tree, whose files have the ids of the namespace
    {"do": "view"}  namespace, trees                                             -->  a mount namespace
        the trees are in it at /run/0, /run/1, ...

A process with several threads, as the server is, can neither fork safely nor enter a user namespace; this one
forks a child for each request, which ends with its answer. It ends when CONTROL does, however its other end is
closed. Only the standard library is used: it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_NOSUID = 2
MS_NODEV = 4
MS_REC = 0x4000
MS_PRIVATE = 0x40000
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
OPEN_TREE_CLONE = 1
AT_FDCWD = -100
MOVE_MOUNT_F_EMPTY_PATH = 4
LARGEST = 1 << 20
MOST_DESCRIPTORS = 250

MOUNTS = "/run"
"""Covered in the mount namespaces made here: it exists everywhere, and nothing of it is needed inside."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


class KernelRefused(OSError):
    """`strerror` names the step with its reason."""


def fail(step: str, code: int) -> KernelRefused:
    return KernelRefused(code, f"{step}: {os.strerror(code)}")


def call(step: str, function: Any, *arguments: Any) -> int:
    result = int(function(*arguments))
    if result < 0:
        raise fail(step, ctypes.get_errno())
    return result


def mount(step: str, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [os.fsencode(word) for word in (source, target, kind, options)]
    call(step, LIBC.mount, words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])


def write_map(kind: str, pid: int, ranges: list[list[int]]) -> None:
    text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)
    descriptor = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise fail(f"writing the {kind} map {text.split()}", error.errno or errno.EIO) from None
    finally:
        os.close(descriptor)


def make(request: dict[str, Any]) -> int:
    """A descriptor of a new user namespace; the process that made it has ended."""
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = LIBC.unshare(CLONE_NEWUSER)
        os.write(ready_write, b"0" if code == 0 else str(ctypes.get_errno()).encode())
        os.close(end_write)
        os.read(end_read, 1)
        os._exit(0)
    try:
        os.close(ready_write)
        answer = os.read(ready_read, 16)
        if answer != b"0":
            raise fail("making a user namespace", int(answer or b"0") or errno.EPERM)
        for kind in ("uid", "gid"):
            write_map(kind, pid, request[kind])
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (end_read, end_write, ready_read):
            os.close(descriptor)
        os.waitpid(pid, 0)


def enter(namespace: int) -> None:
    """Become root of a user namespace, with mounts of its own."""
    call("entering the user namespace", LIBC.setns, namespace, CLONE_NEWUSER)
    call("dropping groups", LIBC.setgroups, 0, None)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    call("making a mount namespace", LIBC.unshare, CLONE_NEWNS)
    mount("making the mounts private", "none", "/", "", MS_REC | MS_PRIVATE)


def attach(tree: int, target: str) -> None:
    call(
        "attaching a mount in the user namespace", LIBC.syscall, ctypes.c_long(SYS_MOVE_MOUNT), ctypes.c_int(tree),
        b"", ctypes.c_int(AT_FDCWD), os.fsencode(target), ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
    )  # fmt: skip


def overlay(request: dict[str, Any], descriptors: list[int]) -> int:
    namespace, tree = descriptors
    enter(namespace)
    attach(tree, MOUNTS)
    os.chdir(f"{MOUNTS}/{request['folder']}")
    mount("mounting an overlay in the user namespace", "overlay", "merged", "overlay", MS_NODEV, request["options"])
    return call(
        "detaching the overlay", LIBC.syscall, ctypes.c_long(SYS_OPEN_TREE), ctypes.c_int(AT_FDCWD), b"merged",
        ctypes.c_uint(OPEN_TREE_CLONE | os.O_CLOEXEC),
    )  # fmt: skip


def view(request: dict[str, Any], descriptors: list[int]) -> int:
    del request
    namespace, *trees = descriptors
    enter(namespace)
    mount("mounting a folder in memory", "tmpfs", MOUNTS, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for number, tree in enumerate(trees):
        path = f"{MOUNTS}/{number}"
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(path, 0o755)  # noqa: PTH102 - the import of pathlib takes as long as the rest
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        attach(tree, path)
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def send(control: socket.socket, work: Callable[[], int]) -> None:
    """Answer with the descriptor that comes of the work, or with the step that failed."""
    try:
        found = work()
    except OSError as error:
        control.send(json.dumps({"errno": error.errno, "error": error.strerror}).encode())
        return
    socket.send_fds(control, [b"{}"], [found])
    os.close(found)


def answer(control: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    if request["do"] == "make":
        send(control, lambda: make(request))
        return
    work = {"overlay": overlay, "view": view}[request["do"]]
    pid = os.fork()
    if pid == 0:
        try:
            send(control, lambda: work(request, descriptors))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LARGEST, MOST_DESCRIPTORS)
        if not message:
            return
        try:
            answer(control, json.loads(message), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


if __name__ == "__main__":
    main()
