"""What a process does inside a sealed call that was taken over: tries to reach what it was not given."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagesmith.namespaces.sealed_program import SealedCall

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000


def carry_out(request: dict[str, Any], call: SealedCall) -> Any:
    """The answer of one probe."""
    probe: Callable[[SealedCall], Any] = globals()[request["probe"]]
    return probe(call)


def surroundings(call: SealedCall) -> dict[str, Any]:
    """What is there without any descriptor."""
    del call
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {
        "root": names(Path("/")),
        "processes": [name for name in names(Path("/proc")) if name.isdecimal()],
        "interfaces": [name for _, name in socket.if_nameindex()],
        "descriptors": len(names(Path("/proc/self/fd"))) - 1,  # that of the listing
        "rights": {name: status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "NoNewPrivs")},
        "environment": dict(os.environ),
    }


def attempts(call: SealedCall) -> dict[str, str]:
    """What each way out ends with; `done` for one that is open."""
    folder, below = call.descriptors
    tries: dict[str, Callable[[], Any]] = {
        "a file of the machine": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "the parent of a folder": lambda: os.open("../../etc/passwd", os.O_RDONLY, dir_fd=folder),
        "a setting of the kernel": lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "a process of the machine": lambda: os.kill(2, 0),
        "a mount": lambda: checked(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
        "a user namespace": lambda: checked(LIBC.unshare(NEW_USER)),
        "a mount namespace": lambda: checked(LIBC.unshare(NEW_MOUNTS)),
        "another root": lambda: os.chroot("/tmp"),
        "a host name": lambda: socket.sethostname("other"),
        "a device": lambda: os.mknod(b"null", 0o020666, os.makedev(1, 3), dir_fd=folder),
        "an id of another build": lambda: os.chown(b"own", 65536, 0, dir_fd=folder),
        "writing below": lambda: os.open(b"new", os.O_CREAT | os.O_WRONLY, dir_fd=below),
        "changing below": lambda: os.chmod(b"lower", 0o777, dir_fd=below),
        "a connection": lambda: socket.socket().connect((b"127.0.0.1", 22)),
        "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "a larger answer": lambda: os.pwrite(result_file(), b"x", 1 << 30),
        "many processes": lambda: fork_often(64),
        "an answer of the caller": lambda: call.ask({"node": "61", "mode": 0, "device": 0}, [folder]),
    }
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = "done"
        except OSError as error:
            found[name] = error.strerror or str(error)
    return found


def leave(call: SealedCall) -> None:
    """End without an answer."""
    del call
    os._exit(0)


def nonsense(call: SealedCall) -> None:
    """Answer with what is no JSON, as a process that was taken over may."""
    os.pwrite(result_file(), b"[" * 200_000, 0)
    socket_of(call).send(b"done")
    endless(call)


def odd_failure(call: SealedCall) -> None:
    """Say that it failed, in another form."""
    socket_of(call).send(b"failed x")


def long_failure(call: SealedCall) -> None:
    """Say that it failed, with a number that is too long to be read."""
    socket_of(call).send(b"failed " + b"9" * 5000 + b" words")


def asks_only(call: SealedCall) -> None:
    """Ask without end, and never read an answer."""
    while True:
        socket_of(call).send(b"{}")


def large_answer(call: SealedCall) -> str:
    """Answer with more than any caller takes."""
    del call
    return "x" * (9 << 20)


def endless(call: SealedCall) -> None:
    """Work until it is killed."""
    while True:
        call.descriptors.sort()


def greedy(call: SealedCall) -> int:
    """Use more memory than a call may."""
    del call
    return len(bytearray(5 << 30))


def socket_of(call: SealedCall) -> socket.socket:
    """That of the answers, which no honest module touches."""
    found: socket.socket = vars(call)["_answers"]
    return found


def result_file() -> int:
    """The descriptor of the file for the answer."""
    for name in names(Path("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if "memfd:result" in str(Path("/proc/self/fd", name).readlink()):
                return int(name)
    raise LookupError("there is no such file")


def fork_often(count: int) -> None:
    """Have so many processes at once."""
    children = []
    try:
        for _ in range(count):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
