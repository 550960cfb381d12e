"""Holds a user namespace with the root of an image mounted in it; runs alone (see user_namespace.py).

    python -I -S holder_program.py CONTROL
                                   sequential packets: one request, one answer, descriptors with either

    first request   {"maps": {"uid": [[inside, outside, count]], "gid": [...]}, "privileged": bool,
                     "lowers": [folder, ...], "upper": folder or null}
    first answer    {"pid": process id as this program sees it}, after the root is mounted at /run/root

    privileged      started by root: folders are mounted with the ids of the namespace. On disk everything stays
                    numbered from 0, and no process of the namespace is root outside
    otherwise       started by an ordinary user: `newuidmap` and `newgidmap` write the map, and the folders lie on
                    disk with the user's subordinate ids

    later requests  {"do": "open", "path": ..., "flags": ..., "mode": ..., "follow": bool}   answer: a descriptor

The namespace ends when CONTROL ends, however its other end is closed. Only the standard library is used: it
runs before anything of imagesmith is visible.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_OPENAT2 = 437
SYS_MOUNT_SETATTR = 442
OPEN_TREE_CLONE = 1
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_FDCWD = -100
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_IDMAP = 0x100000
NO_MAGICLINKS = 0x02
NO_SYMLINKS = 0x04
IN_ROOT = 0x10
PR_SET_PDEATHSIG = 1
RETRIES = 32
LARGEST = 1 << 20

PLACE = "/run"
"""Covered by a file system of our own: it exists everywhere, and nothing of it is needed inside."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


class MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64), ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64), ("userns_fd", ctypes.c_uint64),
    )  # fmt: skip


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class PreparationFailed(OSError):
    """A step of the preparation failed; `strerror` names it with its reason."""


def fail(step: str, code: int) -> PreparationFailed:
    return PreparationFailed(code, f"{step}: {os.strerror(code)}")


def call(step: str, function: Any, *arguments: Any) -> int:
    result = int(function(*arguments))
    if result < 0:
        raise fail(step, ctypes.get_errno())
    return result


def system_call(step: str, number: int, *arguments: Any) -> int:
    return call(step, LIBC.syscall, ctypes.c_long(number), *arguments)


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


def new_namespace(maps: dict[str, list[list[int]]]) -> int:
    """A descriptor of a new user namespace with these maps; the caller is privileged and stays outside."""
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
            write_map(kind, pid, maps[kind])
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (end_read, end_write, ready_read):
            os.close(descriptor)
        os.waitpid(pid, 0)


def enter_own_namespace(maps: dict[str, list[list[int]]]) -> None:
    """As an ordinary user: make a namespace for this process; two set-user-id programs write its maps."""
    start_read, start_write = os.pipe()
    done_read, done_write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:  # stays in the namespace of the user
        os.close(start_write)
        failure = ""
        if os.read(start_read, 1):
            for kind in ("uid", "gid"):
                words = [str(number) for entry in maps[kind] for number in entry]
                try:
                    done = subprocess.run(
                        [f"new{kind}map", str(parent), *words],
                        capture_output=True,
                        text=True,
                        timeout=30,
                        check=False,
                    )
                    failure = failure or (done.stderr.strip() if done.returncode else "")
                except (OSError, subprocess.TimeoutExpired) as error:
                    failure = failure or f"new{kind}map: {error}"
        os.write(done_write, failure.encode()[:2000] or b"ok")
        os._exit(0)
    try:
        call("making a user namespace", LIBC.unshare, CLONE_NEWUSER)
        os.write(start_write, b"1")
        os.close(start_write)
        os.close(done_write)
        text = os.read(done_read, 4096).decode(errors="replace")
        if text != "ok":
            raise PreparationFailed(errno.EPERM, f"writing the maps of the user namespace: {text}")
    finally:
        os.waitpid(pid, 0)
        for descriptor in (start_read, done_read):
            os.close(descriptor)


def become_root() -> None:
    call("dropping groups", LIBC.setgroups, 0, None)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def own_mounts() -> None:
    call("making a mount namespace", LIBC.unshare, CLONE_NEWNS)
    mount("making the mounts private", "none", "/", "", MS_REC | MS_PRIVATE)


def prepare_place(layers: int) -> None:
    mount("mounting a folder in memory", "tmpfs", PLACE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for name in ("root", "upper", *(f"l{number}" for number in range(layers))):
        Path(PLACE, name).mkdir(0o755)


def attach(source: str, target: str, *, namespace: int, writable: bool) -> None:
    """Mount a folder elsewhere, without devices; with the ids of a namespace, unless that is -1."""
    step = f"mounting {source}"
    tree = system_call(
        step, SYS_OPEN_TREE, ctypes.c_int(AT_FDCWD), os.fsencode(source),
        ctypes.c_uint(OPEN_TREE_CLONE | os.O_CLOEXEC),
    )  # fmt: skip
    try:
        attributes = MountAttributes(attr_set=MOUNT_ATTR_NODEV | (0 if writable else MOUNT_ATTR_RDONLY))
        if namespace >= 0:
            attributes.attr_set |= MOUNT_ATTR_IDMAP
            attributes.userns_fd = namespace
        system_call(
            f"{step} with the ids of the namespace" if namespace >= 0 else step,
            SYS_MOUNT_SETATTR, ctypes.c_int(tree), b"", ctypes.c_uint(AT_EMPTY_PATH), ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )  # fmt: skip
        system_call(
            step, SYS_MOVE_MOUNT, ctypes.c_int(tree), b"", ctypes.c_int(AT_FDCWD), os.fsencode(target),
            ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
        )  # fmt: skip
    finally:
        os.close(tree)


def mount_root(request: dict[str, Any]) -> None:
    """Mount the layers as one root: an overlay, or the only layer itself when nothing can be written."""
    lowers = [f"l{number}" for number in range(len(request["lowers"]))]
    os.chdir(PLACE)
    options = f"lowerdir={':'.join(lowers)},userxattr,redirect_dir=nofollow"
    if request["upper"]:
        options += ",upperdir=upper/upper,workdir=upper/work,volatile"
    elif len(lowers) == 1:
        mount("mounting the root", f"{PLACE}/l0", f"{PLACE}/root", "", MS_BIND)
        return
    mount("mounting the root as an overlay", "overlay", f"{PLACE}/root", "overlay", MS_NODEV, options)


def prepare(request: dict[str, Any]) -> None:
    maps, lowers, upper = request["maps"], request["lowers"], request["upper"]
    namespace = -1
    if request["privileged"]:
        namespace = new_namespace(maps)
        own_mounts()
    else:
        enter_own_namespace(maps)
        become_root()
        own_mounts()
    prepare_place(len(lowers))
    for number, lower in enumerate(lowers):
        attach(lower, f"{PLACE}/l{number}", namespace=namespace, writable=False)
    if upper:
        attach(upper, f"{PLACE}/upper", namespace=namespace, writable=True)
    if namespace >= 0:
        call("entering the user namespace", LIBC.setns, namespace, CLONE_NEWUSER)
        os.close(namespace)
        become_root()
        own_mounts()
    mount_root(request)
    os.chdir("/")


def open_inside(root: int, request: dict[str, Any]) -> int:
    flags = int(request["flags"])
    created = int(request.get("mode", 0)) if flags & os.O_CREAT else 0
    resolve = IN_ROOT | NO_MAGICLINKS | (0 if request.get("follow", True) else NO_SYMLINKS)
    how = OpenHow(flags | os.O_CLOEXEC, created, resolve)
    for _ in range(RETRIES):
        result = LIBC.syscall(
            ctypes.c_long(SYS_OPENAT2), ctypes.c_int(root), os.fsencode(request["path"]), ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )  # fmt: skip
        if result >= 0:
            return int(result)
        # a rename anywhere on the machine makes the kernel unsure whether `..` left the root: try again
        if ctypes.get_errno() != errno.EAGAIN:
            break
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def serve(control: socket.socket) -> None:
    root = os.open(f"{PLACE}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    while message := control.recv(LARGEST):
        request = json.loads(message)
        try:
            found = open_inside(root, request)
        except OSError as error:
            control.send(json.dumps({"errno": error.errno, "error": error.strerror}).encode())
            continue
        socket.send_fds(control, [b"{}"], [found])
        os.close(found)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    message = control.recv(LARGEST)
    if not message:
        return
    try:
        prepare(json.loads(message))
    except OSError as error:
        control.send(json.dumps({"errno": error.errno, "error": error.strerror}).encode())
        return
    control.send(json.dumps({"pid": os.getpid()}).encode())
    serve(control)


if __name__ == "__main__":
    main()
