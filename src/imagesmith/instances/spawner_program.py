"""The program that starts commands in a container; runs alone, inside the outer namespaces (see spawner.py).

    python -I spawner_program.py CONTROL PIDS MOUNTS FILTER CAPABILITIES
                                 |       |    |      |      mask of what commands keep, hexadecimal
                                 |       |    |      system call filter, compiled
                                 |       |    namespaces of the container
                                 sequential packets; each brings descriptors and starts a command:
                                 body (JSON: see Command), standard input, output, error, answers, detached mounts

                                 or brings streams of a command that has ended, to be read for processes it left
                                 behind

    answers:   -->  "failed STAGE ERRNO"     the command could not be started
               -->  "exit STATUS"            it ended; 128 + signal, as in a shell
               <--  the end (no message: an unread one would make the peer lose answers that it has not read yet)
                                             kill it now, with all processes that it started

Processes left behind by a command that ended by itself run until the sandbox ends: the service that one step starts
is available to the next. A command that is `alone` leaves none. Orphans are reaped by the first process of the
container.

One fork for each command. The child is in the container's process namespace from its start. The order of its
confinement never allows a program of the container to take it over: it is not dumpable until it has become the
command, it joins the container's mounts with only its streams open, and it drops its capabilities last. From the
join on it opens no file of the image and loads no module: they would be the image's.

Only the standard library is used: the namespaces hold no other file of imagesmith.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MNT_DETACH = 0x2
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_SYMLINKS = 0x10
SYS_MOVE_MOUNT = 429
AT_FDCWD = -100
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
DESCRIPTORS = 5
MOST_MOUNTS = 64
ROUNDS = 100
"""How often processes that a command left are looked for: new ones may be forked meanwhile."""
CHUNK = 65536
OOM_SCORE = "/proc/self/oom_score_adj"
DRAINED = 256
"""Most streams that are read for processes left behind; beyond it, the oldest are closed."""
PREFERRED = "500"
"""How much sooner than this program the memory limit hits a command, in thousandths of the limit."""

HOLDER = "/dev/holder"
"""The files of the holder (holder.py)."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
"""Device files that bubblewrap binds from the host."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
LIBC.mount.argtypes = (*[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p)
LIBC.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


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

    def close(self, user: dict[str, Any] | None) -> None:
        """Give up all rights but those of a command, and become its user: one that is not root keeps none."""
        for number in self.dropped:
            call("bounds", LIBC.prctl, PR_CAPBSET_DROP, number, 0, 0, 0)
        # set-user-id programs and sudo work: what they gain ends at the bounds above and the namespace of users.
        # A filter without `no new privileges` needs a right that a user who is not root loses
        call("filter", LIBC.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(self.program[1]), 0, 0)
        if user is not None:
            become_user(user)
        is_root = user is None or user["uid"] == 0
        call("capabilities", LIBC.capset, self.header, self.sets if is_root else bytes(len(self.sets)))


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
    kept: frozenset[int] | None = None
    """The processes that outlive it, when it is alone in the container; None: those that it leaves do."""
    killed: set[int] | None = None
    """Once it is killed: the processes that it started."""

    def kill(self) -> None:
        """Kill its group, its session and its descendants: a step that timed out leaves no process."""
        found = started_by(self.pid)
        self.killed = {*(self.killed or ()), *found} - {self.pid}
        for pid in found:
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
        for _ in range(0 if self.killed is None else ROUNDS):
            self.kill()  # processes forked meanwhile; a killed one lives until the kernel has time for it
            if not any(os.path.exists(f"/proc/{pid}") for pid in self.killed or ()):
                break
            select.select([], [], [], 0.001)
        os.waitpid(self.pid, 0)
        if self.kept is not None:
            end_left(self.kept)
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


def processes_inside() -> frozenset[int]:
    """The processes of the container: they have a number in a further process namespace."""
    found: set[int] = set()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{int(name)}/status") as file:
            numbers = next(line for line in file if line.startswith("NSpid:")).split()
            if len(numbers) > 2:
                found.add(int(name))
    return frozenset(found)


def end_left(kept: frozenset[int]) -> None:
    """Kill the processes of the container but the kept ones, until there is none."""
    for _ in range(ROUNDS):
        left = processes_inside() - kept
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # the first process of the container reaps them
        select.select([], [], [], 0.001)


class SpawnerLoop:
    def __init__(self, control: socket.socket, confinement: Confinement) -> None:
        self.control = control
        self.confinement = confinement
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
                    self.handle_event(descriptor)
                elif descriptor in self.drained:
                    self.discard(descriptor)

    def accept(self) -> bool:
        """Start the next command; False when no client is left."""
        room = socket.CMSG_SPACE((DESCRIPTORS + MOST_MOUNTS) * struct.calcsize("i"))
        message, control, _, _ = self.control.recvmsg(16, room, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        descriptors = [number for _, _, data in control for (number,) in struct.iter_unpack("i", data)]
        if message == b"drain":
            self.drain(descriptors)
            return True
        if len(descriptors) < DESCRIPTORS:  # this program has too many open files: the caller reads the end
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        answers = socket.socket(fileno=descriptors.pop(DESCRIPTORS - 1))
        ours = descriptors
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
            self.release(self.drained[0])

    def discard(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(descriptor, CHUNK):
                self.release(descriptor)

    def release(self, descriptor: int) -> None:
        self.drained.remove(descriptor)
        self.poll.unregister(descriptor)
        os.close(descriptor)

    def start(self, descriptors: list[int], answers: socket.socket) -> None:
        body, *rest = descriptors
        streams, trees = rest[:3], rest[3:]
        with open(body, "rb", closefd=False) as file:
            wanted = json.load(file)
        if len(trees) != sum("tree" in mount for mount in wanted["mounts"]):
            raise StageError(errno.EMFILE, "mounts")
        kept = processes_inside() if wanted["alone"] else None
        pid = os.fork()
        if pid == 0:
            self.become(wanted, streams, trees, answers)
        try:
            command = RunningCommand(pid, os.pidfd_open(pid), answers, kept)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        for descriptor in (command.ended, answers.fileno()):
            self.commands[descriptor] = command
            self.poll.register(descriptor, select.POLLIN)

    def handle_event(self, descriptor: int) -> None:
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

    def become(self, wanted: Any, streams: list[int], trees: list[int], answers: socket.socket) -> NoReturn:
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
            if wanted["network"] == "none":
                close_network()
            self.confinement.enter()
            if wanted["mounts"]:
                attach(wanted["mounts"], trees)
            enter_folder(wanted["cwd"])
            self.confinement.close(wanted["user"])
            execute(wanted["argv"], wanted["env"])
        except OSError as error:
            answer(answers, f"failed {stage_of(error, 'start')} {error.errno}")
        except BaseException:  # a traceback would read files, which are the image's by now
            answer(answers, f"failed start {errno.EINVAL}")
        finally:
            os._exit(127)


def close_network() -> None:
    """Leave the network of the container for one with nothing but a loopback."""
    call("network", LIBC.unshare, CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        fcntl.ioctl(made, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def attach(mounts: list[dict[str, Any]], trees: list[int]) -> None:
    """Mount what only this command sees, in a copy of the container's mounts."""
    call("mounts", LIBC.unshare, CLONE_NEWNS)
    call("mounts", LIBC.mount, None, b"/", None, MS_REC | MS_PRIVATE, None)
    left = iter(trees)
    for mount in mounts:
        target = os.fsencode(mount["target"])
        make_target(target, mount.get("folder", True))
        if "tree" in mount:
            flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS
            call("mounts", LIBC.syscall, SYS_MOVE_MOUNT, next(left), b"", AT_FDCWD, target, flags)
            continue
        size = f",size={mount['size']}" if mount["size"] else ""
        call("mounts", LIBC.mount, b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777{size}".encode())
        for name, text in mount["files"].items():
            path = os.path.join(mount["target"], name)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755)
            with open(descriptor, "wb") as file:
                file.write(text.encode(errors="surrogateescape"))


def make_target(target: bytes, is_folder: bool) -> None:
    """Make the target of a mount where an earlier mount of the command, or a folder of the sandbox, lacks it."""
    try:
        os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
        if not is_folder and not os.path.exists(target):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except OSError as error:
        raise StageError(error.errno, "mounts") from None


def become_user(user: dict[str, Any]) -> None:
    """Take the numbers of a user. Its streams are its own, so that it can open /dev/stdout."""
    for descriptor in range(3):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, user["uid"], -1)
    os.setgroups(user["groups"])
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])
    # the kernel forgets it when the user changes
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def enter_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise StageError(error.errno, "folder") from None


def execute(argv: list[str], variables: dict[str, str]) -> NoReturn:
    """execvpe() with the search of a shell: a script without an interpreter line is run by /bin/sh."""
    name = argv[0]
    candidates = [name]
    if "/" not in name:
        candidates = [f"{folder or '.'}/{name}" for folder in variables.get("PATH", os.defpath).split(":")]
    worst = errno.ENOENT
    for candidate in candidates:
        try:
            os.execve(candidate, argv, variables)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", candidate, *argv[1:]], variables)
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
        # in a user namespace nothing can be protected, but commands can be preferred
        return PREFERRED
    return score


def stage_of(error: OSError, otherwise: str) -> str:
    return str(error.strerror) if isinstance(error, StageError) else otherwise


def answer(answers: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):
        answers.send(text.encode())


def seal_devices(mounts: int) -> None:
    """Make the mounts of the host's device files read-only: root inside could change their mode, owner and times
    outside. Devices are read and written as before; bubblewrap's own read-only mounts cannot be opened. The files
    of the holder, which runs, are removed: commands find nothing but devices."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call("devices", LIBC.setns, mounts, CLONE_NEWNS)
            flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC
            for name in DEVICES:
                call("devices", LIBC.mount, None, f"/dev/{name}".encode(), None, flags, None)
            # bubblewrap allows no set-user-id files, which are those of the image here
            call("devices", LIBC.mount, None, b"/", None, MS_REMOUNT | MS_BIND | MS_NODEV, None)
            for name in os.listdir(HOLDER):
                call("devices", LIBC.umount2, f"{HOLDER}/{name}".encode(), MNT_DETACH)
                os.unlink(f"{HOLDER}/{name}")
            os.rmdir(HOLDER)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit("the device files of the container cannot be made read-only")


def main() -> None:
    control, pids, mounts, program = (int(word) for word in sys.argv[1:5])
    for descriptor in (control, pids, mounts, program):
        os.set_inheritable(descriptor, False)
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    instructions = os.pread(program, os.fstat(program).st_size, 0)
    confinement = Confinement.prepare(mounts, instructions, int(sys.argv[5], 16))
    call("processes", LIBC.setns, pids, CLONE_NEWPID)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seal_devices(mounts)
    SpawnerLoop(socket.socket(fileno=control), confinement).serve()


if __name__ == "__main__":
    main()
