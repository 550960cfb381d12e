"""Carries out calls on untrusted bytes, each in a sealed process; runs alone (see sealed_calls.py).

    python -I -S sealed_program.py CONTROL FOLDER...
                          takes calls: sequential packets with the name of a MODULE, which is imported once from
                          the FOLDERs, and descriptors: request (JSON), result (a file, for JSON), answers (a
                          socket), a user namespace, those that the call is about, and, with "scratch", a mount for
                          /tmp. Without descriptors, the module is only imported; JSON is a request of
                          maker_program.py
    answers  -->          "started" with a descriptor of the process, "done" when the result is written; the end
                          without it: the process died
    result                {"answer": ...} of MODULE.carry_out, or {"failed": words, "errno": number or none}; the
                          file cannot become larger

A process forked for a call enters the user namespace and has processes, mounts, network, IPC and names of its own.
Its file system is an empty folder in memory with its own /proc, so the descriptors are all that it reaches; it
keeps the rights to write files as they were, may not gain others, and ends with this program or with the other end
of `answers`. The start of Python and its imports take longer than most calls, so they are done once, by a process
that reads nothing untrusted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

CLONE_NEWUSER = 0x10000000
OWN = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
"""Mounts, processes, network, IPC, names and control groups."""
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_MOVE_MOUNT = 429
MOVE_MOUNT_F_EMPTY_PATH = 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
CAPABILITY_VERSION_3 = 0x20080522
KEPT = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_SETFCAP": 31,
}  # fmt: skip
"""The rights to write files as they were."""
DATA_BYTES = 4 * 1024**3
PROCESSES = 64
"""And threads. They are counted for one user of one user namespace."""
LIMITS = (
    (resource.RLIMIT_DATA, DATA_BYTES), (resource.RLIMIT_NOFILE, 4096), (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NPROC, PROCESSES),
)  # fmt: skip
RECURSION = 20_000
MOST_DESCRIPTORS = 250
CALL_DESCRIPTORS = 4
LARGEST = 1 << 16
SCRATCH = "tmp"
MOUNTPOINT = "/run"
"""Covered in the mount namespace of a call: it exists everywhere."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
LIBC.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


class CallerGone(BaseException):
    """Nobody waits for the answer any more."""


class SealedCall:
    """What MODULE.carry_out(request, call) works with."""

    def __init__(self, descriptors: list[int], answers: socket.socket) -> None:
        self.descriptors = descriptors
        self._answers = answers
        self._poll = select.poll()
        self._poll.register(answers.fileno(), 0)

    def check(self) -> None:
        """Raise CallerGone once nobody waits for the answer."""
        if self._poll.poll(0):
            raise CallerGone

    def ask(self, question: dict[str, Any], descriptors: list[int]) -> None:
        """Have the caller do what only a process outside can. Raises OSError."""
        socket.send_fds(self._answers, [json.dumps(question).encode()], descriptors)
        said = self._answers.recv(16)
        if not said:
            raise CallerGone
        if int(said):
            raise OSError(int(said), os.strerror(int(said)))


def call(step: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{step}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [os.fsencode(word) for word in (source, target, kind, options)]
    call(f"mounting {kind or target}", LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))


def enter(namespace: int) -> None:
    """Become root of the user namespace; children have namespaces of their own."""
    call("entering the user namespace", LIBC.setns(namespace, CLONE_NEWUSER))
    call("dropping groups", LIBC.setgroups(0, None))
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    call("making namespaces", LIBC.unshare(OWN))


def seal(scratch: int | None) -> None:
    """See no file but /proc and, at /tmp, the folder `scratch`; keep few rights."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", MOUNTPOINT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k")
    for name in ("proc", SCRATCH):
        os.mkdir(f"{MOUNTPOINT}/{name}", 0o755)  # noqa: PTH102 - like the rest here, without pathlib
    mount("proc", f"{MOUNTPOINT}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    no_namespaces()
    if scratch is not None:
        call(
            "attaching a folder", LIBC.syscall(
                ctypes.c_long(SYS_MOVE_MOUNT), ctypes.c_int(scratch), b"", ctypes.c_int(-100),
                os.fsencode(f"{MOUNTPOINT}/{SCRATCH}"), ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
            ),
        )  # fmt: skip
    os.chdir(MOUNTPOINT)
    number = SYS_PIVOT_ROOT[os.uname().machine]
    call("changing the root", LIBC.syscall(ctypes.c_long(number), b".", b"."))
    call("leaving the old root", LIBC.umount2(b".", MNT_DETACH))
    os.chdir("/")
    for limit, most in LIMITS:
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    drop_rights()


def no_namespaces() -> None:
    """Forbid user namespaces inside, in which a process has all rights over what it makes there."""
    descriptor = os.open(f"{MOUNTPOINT}/proc/sys/user/max_user_namespaces", os.O_WRONLY)
    os.write(descriptor, b"0")
    os.close(descriptor)


def drop_rights() -> None:
    mask = sum(1 << number for number in KEPT.values())
    with open("/proc/sys/kernel/cap_last_cap") as file:  # noqa: PTH123
        last = int(file.read())
    call("hiding the memory", LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    for number in range(last + 1):
        if not mask >> number & 1:
            call("dropping a right", LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
    call("refusing rights", LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    call("dropping rights", LIBC.capset(header, struct.pack("6I", mask, mask, 0, 0, 0, 0)))


def die_with_parent(parent: int) -> None:
    """`parent`: a pipe that ends with it."""
    call("following the parent", LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    poll = select.poll()
    poll.register(parent, 0)
    if poll.poll(0):
        os._exit(1)


def keep_only(descriptors: list[int]) -> None:
    """Close all others."""
    kept = sorted({0, 1, 2, *descriptors})
    for low, high in zip(kept, [*kept[1:], 1 << 20], strict=True):
        os.closerange(low + 1, high)


def carry_out(work: Callable[[dict[str, Any], SealedCall], Any], descriptors: list[int], pipe: int) -> NoReturn:
    """In the first process of the namespaces."""
    request, result, answer, *rest = descriptors
    with socket.socket(fileno=answer) as answers:
        try:
            if not os.read(pipe, 1):
                os._exit(1)
            with os.fdopen(request, "rb") as file:
                wanted = json.load(file)
            seal(rest.pop() if wanted.pop("scratch") else None)
            die_with_parent(pipe)
            found: dict[str, Any] = {"answer": work(wanted, SealedCall(rest, answers))}
        except OSError as error:
            found = {"failed": error.strerror or str(error), "errno": error.errno}
        except MemoryError:
            found = {"failed": f"it needs more than {DATA_BYTES} bytes of memory", "errno": None}
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {error}", "errno": None}
        data, most = json.dumps(found).encode(), os.fstat(result).st_size
        if len(data) > most:
            data = json.dumps({"failed": f"its answer has more than {most} bytes", "errno": errno.EFBIG}).encode()
        with os.fdopen(result, "wb") as file:
            file.write(data)
        answers.send(b"done")
    os._exit(0)


def serve(work: Callable[[dict[str, Any], SealedCall], Any], descriptors: list[int], pipe: int) -> NoReturn:
    """In a process of its own: carry out one call."""
    namespace = descriptors.pop(3)
    answers = socket.socket(fileno=os.dup(descriptors[2]))
    try:
        keep_only([*descriptors, namespace, answers.fileno(), pipe])
        enter(namespace)
        # not before: the kernel forgets the wish with a change of user
        die_with_parent(pipe)
        for descriptor in (namespace, pipe):
            os.close(descriptor)
        pipe, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(end)
            answers.close()
            carry_out(work, descriptors, pipe)
        for descriptor in descriptors:
            os.close(descriptor)
        # before it does anything: it could say the same
        socket.send_fds(answers, [b"started"], [os.pidfd_open(pid)])
        os.write(end, b"s")
        answers.close()
        os.waitpid(pid, 0)
    except OSError as error:
        with contextlib.suppress(OSError):
            answers.send(f"failed {error.errno} {error.strerror}".encode())
    finally:
        os._exit(0)


def fork_for(descriptors: list[int]) -> bool:
    """Whether this is the process for the call with these descriptors, if there are any.

    Without one, the call is told so, and other calls go on.
    """
    if len(descriptors) < CALL_DESCRIPTORS:
        # a module to import, or this program has too many open files: the caller reads the end of the call
        return False
    try:
        return os.fork() == 0
    except OSError as error:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptors[2])) as answers:
            answers.send(f"failed {error.errno} {error.strerror}".encode())
        return False


def reap() -> None:
    """Take leave of calls that ended while the kernel left that to us."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main(arguments: list[str]) -> None:
    control, *folders = arguments
    sys.path[:] = folders
    os.umask(0)
    sys.setrecursionlimit(RECURSION)
    maker = importlib.import_module("imagesmith.namespaces.maker_program")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    pipe, end = os.pipe()
    with socket.socket(fileno=int(control)) as requests:
        requests.set_inheritable(False)
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, LARGEST, MOST_DESCRIPTORS)
            if not message:
                return
            if message.startswith(b"{"):
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                wanted = json.loads(message)
                maker.send(requests, functools.partial(maker.make, wanted))
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                reap()
                continue
            work = importlib.import_module(message.decode()).carry_out
            if fork_for(descriptors):
                os.close(end)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                # what this program says is read by others than the caller of one call
                os.dup2(1, 2)
                serve(work, descriptors, pipe)
            for descriptor in descriptors:
                os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:])
