"""What a process does inside a sealed call that was taken over: tries to reach what it was not given."""

from __future__ import annotations

import contextlib
import ctypes
import os
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
    for name in names(Path("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if "memfd" in str(Path("/proc/self/fd", name).readlink()):
                os.pwrite(int(name), b"[" * 200_000, 0)
    call.ask({}, [])


def endless(call: SealedCall) -> None:
    """Work until it is killed."""
    while True:
        call.descriptors.sort()


def greedy(call: SealedCall) -> int:
    """Use more memory than a call may."""
    del call
    return len(bytearray(5 << 30))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
