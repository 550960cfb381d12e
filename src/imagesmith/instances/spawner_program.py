"""The program that starts commands in a container; runs alone, inside the outer namespaces (see spawner.py).

    python -I spawner_program.py CONTROL PIDS MOUNTS FILTER CAPABILITIES
                                 |       |    |      |      mask of what commands keep, hexadecimal
                                 |       |    |      system call filter, compiled
                                 |       |    namespaces of the container
                                 sequential packets; each brings five descriptors and starts a command:
                                 body (JSON: argv, env, cwd), standard input, output, error, answers

                                 or brings streams of a command that has ended, to be read for processes it left
                                 behind

    answers:   -->  "failed STAGE ERRNO"     the command could not be started
               -->  "exit STATUS"            it ended; 128 + signal, as in a shell
               <--  the end (no message: an unread one would make the peer lose answers that it has not read yet)
                                             kill it now, with all processes that it started

Processes left behind by a command that ended by itself run until the sandbox ends: the service that one step starts
is available to the next. Orphans are reaped by the first process of the container.

One fork for each command. The child is in the container's process namespace from its start. The order of its
confinement never allows a program of the container to take it over: it is not dumpable until it has become the
command, it joins the container's mounts with only its streams open, and it drops its capabilities last. From the
join on it opens no file and loads no module: they would be the image's.

Only the standard library is used: the namespaces hold no other file of imagesmith.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
DESCRIPTORS = 5
CHUNK = 65536
OOM_SCORE = "/proc/self/oom_score_adj"
DRAINED = 256
"""Most streams that are read for processes left behind; beyond it, the oldest are closed."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


class _Filter(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@dataclass(frozen=True)
class Confinement:
    """The confinement of a command, prepared so that the child only makes system calls."""

    mounts: int
    dropped: tuple[int, ...]
    header: bytes
    sets: bytes
    program: Any

    @classmethod
    def prepare(cls, mounts: int, instructions: bytes, capabilities: int) -> Confinement:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            last = int(file.read())
        low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
        buffer = ctypes.create_string_buffer(instructions, len(instructions))
        return cls(
            mounts=mounts,
            dropped=tuple(number for number in range(last + 1) if not capabilities >> number & 1),
            header=struct.pack("Ii", CAPABILITY_VERSION_3, 0),
            sets=struct.pack("6I", low, low, low, high, high, high),
            # the buffer is kept alive by the structure that points to it
            program=(buffer, _Filter(len(instructions) // 8, ctypes.addressof(buffer))),
        )

    def enter(self) -> None:
        call("mounts", LIBC.setns, self.mounts, CLONE_NEWNS)

    def close(self) -> None:
        for number in self.dropped:
            call("bounds", LIBC.prctl, PR_CAPBSET_DROP, number, 0, 0, 0)
        call("privileges", LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        call("filter", LIBC.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(self.program[1]), 0, 0)
        call("capabilities", LIBC.capset, self.header, self.sets)


class StageError(OSError):
    """A step of the child that failed; `strerror` holds its name."""


def call(stage: str, function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        raise StageError(ctypes.get_errno(), stage)


@dataclass
class RunningCommand:
    """A command of the instance that has not ended."""

    pid: int
    ended: int
    answers: socket.socket
    killed: bool = False

    def kill(self) -> None:
        """Kill its group, its session and its descendants: a step that timed out leaves no process."""
        self.killed = True
        for pid in started_by(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for kill in (os.killpg, os.kill):  # the group does not exist until the command has made it
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)

    def finish(self) -> None:
        """Reap and answer. Reaped last: until then its process id cannot be reused."""
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert status is not None
        code = status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status
        if self.killed:
            self.kill()  # processes forked meanwhile
        os.waitpid(self.pid, 0)
        answer(self.answers, f"exit {code}")
        self.answers.close()
        os.close(self.ended)


def started_by(command: int) -> list[int]:
    """The processes of a command's session, and its descendants in other sessions."""
    children: dict[int, list[int]] = {}
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile, or is not a process
            with open(f"/proc/{int(name)}/stat") as file:
                _, parent, _, session = file.read().rpartition(")")[2].split()[:4]
            children.setdefault(int(parent), []).append(int(name))
            if int(session) == command:
                found.append(int(name))
    pending = [command, *found]
    while pending:
        below = children.pop(pending.pop(), [])
        found += below
        pending += below
    return found


class SpawnerLoop:
    def __init__(self, control: socket.socket, seal: Confinement) -> None:
        self.control = control
        self.seal = seal
        self.commands: dict[int, RunningCommand] = {}
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.drained: list[int] = []
        self.oom_score = protect_from_memory_limit()

    def serve(self) -> None:
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.control.fileno():
                    if not self.accept():
                        return
                elif descriptor in self.commands:
                    self.attend(descriptor)
                elif descriptor in self.drained:
                    self.discard(descriptor)

    def accept(self) -> bool:
        """Start the next command; False when no client is left."""
        room = socket.CMSG_SPACE(DESCRIPTORS * struct.calcsize("i"))
        message, control, _, _ = self.control.recvmsg(16, room, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        descriptors = [number for _, _, data in control for (number,) in struct.iter_unpack("i", data)]
        if message == b"drain":
            self.drain(descriptors)
            return True
        if len(descriptors) != DESCRIPTORS:  # this program has too many open files: the caller reads the end
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        *ours, last = descriptors
        answers = socket.socket(fileno=last)
        try:
            self.start(ours, answers)
        except OSError as error:
            answer(answers, f"failed {stage_of(error, 'fork')} {error.errno}")
            answers.close()
        finally:
            for descriptor in ours:
                os.close(descriptor)
        return True

    def drain(self, descriptors: list[int]) -> None:
        """Read streams to their end, for processes that still write to them."""
        for descriptor in descriptors:
            os.set_blocking(descriptor, False)
            self.drained.append(descriptor)
            self.poll.register(descriptor, select.POLLIN)
        while len(self.drained) > DRAINED:
            self.let_go(self.drained[0])

    def discard(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(descriptor, CHUNK):
                self.let_go(descriptor)

    def let_go(self, descriptor: int) -> None:
        self.drained.remove(descriptor)
        self.poll.unregister(descriptor)
        os.close(descriptor)

    def start(self, descriptors: list[int], answers: socket.socket) -> None:
        body, *streams = descriptors
        with open(body, "rb", closefd=False) as file:
            wanted = json.load(file)
        pid = os.fork()
        if pid == 0:
            self.become(wanted, streams, answers)
        try:
            command = RunningCommand(pid, os.pidfd_open(pid), answers)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        for descriptor in (command.ended, answers.fileno()):
            self.commands[descriptor] = command
            self.poll.register(descriptor, select.POLLIN)

    def attend(self, descriptor: int) -> None:
        command = self.commands[descriptor]
        if descriptor != command.ended:
            command.kill()
            self.forget(descriptor)
            return
        self.forget(descriptor)
        if command.answers.fileno() in self.commands:
            self.forget(command.answers.fileno())
        command.finish()

    def forget(self, descriptor: int) -> None:
        del self.commands[descriptor]
        self.poll.unregister(descriptor)

    def become(self, wanted: Any, streams: list[int], answers: socket.socket) -> NoReturn:
        """In the child: become the command, or answer with the stage that failed."""
        try:
            os.setsid()
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            with contextlib.suppress(OSError), open(OOM_SCORE, "w") as file:
                file.write(self.oom_score)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for target, descriptor in enumerate(streams):
                os.dup2(descriptor, target)
            self.seal.enter()
            enter_folder(wanted["cwd"])
            self.seal.close()
            execute(wanted["argv"], wanted["env"])
        except OSError as error:
            answer(answers, f"failed {stage_of(error, 'start')} {error.errno}")
        except BaseException:  # a traceback would read files, which are the image's by now
            answer(answers, f"failed start {errno.EINVAL}")
        finally:
            os._exit(127)


def enter_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise StageError(error.errno, "folder") from None


def execute(argv: list[str], variables: dict[str, str]) -> NoReturn:
    """execvpe() with the search of a shell: a script without an interpreter line is run by /bin/sh."""
    name = argv[0]
    places = [name]
    if "/" not in name:
        places = [f"{folder or '.'}/{name}" for folder in variables.get("PATH", os.defpath).split(":")]
    worst = errno.ENOENT
    for place in places:
        try:
            os.execve(place, argv, variables)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", place, *argv[1:]], variables)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or worst
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                break
    raise StageError(worst, "program")


def protect_from_memory_limit() -> str:
    """Let the memory limit of the container hit commands, not this program; returns the score for commands."""
    try:
        with open(OOM_SCORE) as file:
            score = file.read().strip()
        with open(OOM_SCORE, "w") as file:
            file.write("-1000")
    except OSError:
        return "0"
    return score


def stage_of(error: OSError, otherwise: str) -> str:
    return str(error.strerror) if isinstance(error, StageError) else otherwise


def answer(answers: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):
        answers.send(text.encode())


def main() -> None:
    control, pids, mounts, program = (int(word) for word in sys.argv[1:5])
    for descriptor in (control, pids, mounts, program):
        os.set_inheritable(descriptor, False)
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    instructions = os.pread(program, os.fstat(program).st_size, 0)
    seal = Confinement.prepare(mounts, instructions, int(sys.argv[5], 16))
    call("processes", LIBC.setns, pids, CLONE_NEWPID)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    SpawnerLoop(socket.socket(fileno=control), seal).serve()


if __name__ == "__main__":
    main()
