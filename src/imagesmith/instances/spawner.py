"""Starts commands in a container's namespaces quickly: one program inside the sandbox forks them all.

    run(argv) -- body, three streams, a socket for answers --> spawner_program.py --fork--> command
         |                                                             |
         '------------------ pump the streams <-- "exit STATUS" -------'

A new confinement for every command (process and mount namespaces, twenty mounts, five programs in sequence) costs
three times as much as a short command; the sandbox's holder already has one. The spawner is in the sandbox's
control groups, so its children are in them from their start; it ends with the sandbox.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from imagesmith import processes
from imagesmith.instances.bubblewrap import Bind, memory_file, pack_arguments
from imagesmith.instances.command import MOST_MOUNTS, Command, MountedTree
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import Sandbox
from imagesmith.instances.seccomp import filter_program
from imagesmith.instances.view import CAPABILITY_MASK, program_binds, python_program
from imagesmith.namespaces.host_ids import HostIds
from imagesmith.processes import Cancellation, Cancelled, Completed
from imagesmith.streams import OnOutput, Stream, Tail, pump

PROGRAM = "/spawner.py"
"""Path of the program in the outer namespaces."""

_END_SECONDS = 30.0
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_MISSING = (errno.ENOENT, errno.ENOTDIR)


def spawner_binds() -> tuple[Bind, ...]:
    """Binds that the spawner needs in the outer namespaces."""
    return program_binds(Path(__file__).with_name("spawner_program.py"), PROGRAM)


class Spawner:
    """The running program; make one with `start`, end it with close(), after its sandbox."""

    def __init__(
        self,
        sandbox: Sandbox,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        said: int,
        *,
        ids: HostIds,
        now: Callable[[], float],
    ) -> None:
        self._now = now
        self._ids = ids
        self._sandbox = sandbox
        self._process = process
        self._control = control
        self._said = said

    @classmethod
    def start(
        cls, sandbox: Sandbox, holder: int, *, ids: HostIds, now: Callable[[], float] = time.monotonic
    ) -> Spawner:  # fmt: skip
        """Start the program in the sandbox, for the namespaces of `holder`, a process id inside the sandbox. `ids`
        are those of commands.

        Does not wait for it: requests do. Raises InstanceError, OSError.
        """
        control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said = os.memfd_create("spawner")
        with ExitStack() as stack:
            stack.callback(other.close)
            failed = stack.enter_context(ExitStack())
            failed.callback(control.close)
            failed.callback(os.close, said)

            def ours(descriptor: int) -> int:
                stack.callback(os.close, descriptor)
                return descriptor

            descriptors = (
                other.fileno(),
                ours(sandbox.inner_namespace(holder, "pid")),
                ours(sandbox.inner_namespace(holder, "mnt")),
                ours(memory_file("seccomp", filter_program())),
            )
            numbers = [str(descriptor) for descriptor in descriptors]
            entry = sandbox.entry([*python_program(PROGRAM), *numbers, f"{CAPABILITY_MASK:x}"])
            process = processes.start(
                entry.argv, env=entry.environment, pass_fds=descriptors, stdout=said, stderr=said, cwd="/",
            )  # fmt: skip
            failed.pop_all()
        return cls(sandbox, process, control, said, ids=ids, now=now)

    def run(self, command: Command, on_output: OnOutput | None, *, cancellation: Cancellation | None) -> Completed:
        """Run a program to its end; `command` names the whole environment. Raises InstanceError, Cancelled."""
        if cancellation is not None:
            cancellation.check()
        argv, cwd = command.argv, command.cwd or "/"
        pack_arguments([*argv, *command.env, *command.env.values(), cwd])
        started = self._now()
        tails: dict[Stream, Tail] = {"stdout": Tail(command.limit), "stderr": Tail(command.limit)}
        with ExitStack() as stack:
            pipes = _Pipes.open(stack, self._ids, with_input=command.input is not None)
            with self._asked(_body(command), pipes, command) as answers:
                timed_out = pump(
                    pipes.stdin, {"stdout": pipes.stdout, "stderr": pipes.stderr}, answers.fileno(), tails,
                    data=command.input, timeout=command.timeout, on_output=on_output,
                    stop=lambda: cancellation is not None and cancellation.requested, now=self._now,
                )  # fmt: skip
                stopped = cancellation is not None and cancellation.requested
                if timed_out or stopped:
                    _kill(answers)
                code, words = self._outcome(answers, argv, cwd)
            held = ((pipes.stdout, tails["stdout"]), (pipes.stderr, tails["stderr"]))
            cut = [pipe for pipe, tail in held if tail.cut]
            if cut and not timed_out and not stopped:
                self._drain(cut)
        if stopped:
            raise Cancelled
        return Completed(
            argv=tuple(argv),
            returncode=code,
            stdout=tails["stdout"].value(),
            stderr=tails["stderr"].value() + words.encode(errors="surrogateescape"),
            seconds=self._now() - started,
            timed_out=timed_out,
            dropped=tails["stdout"].dropped + tails["stderr"].dropped,
            cut=bool(cut),
        )

    def _drain(self, pipes: Sequence[IO[bytes]]) -> None:
        """Have the spawner read streams until their end: a process that can no longer write would be killed."""
        passed = array.array("i", [pipe.fileno() for pipe in pipes])
        with contextlib.suppress(OSError):
            self._control.sendmsg([b"drain"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])

    def close(self) -> None:
        """Release the program; the end of its sandbox has killed it."""
        self._control.close()
        if not processes.wait_ended(self._process, _END_SECONDS):
            self._process.kill()
            self._process.wait()
        os.close(self._said)

    @contextmanager
    def _asked(self, body: bytes, pipes: _Pipes, command: Command) -> Iterator[socket.socket]:
        """Send a request and yield the socket of its answers. The command does not outlive the block."""
        answers, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        text = memory_file("command", body)
        try:
            trees = [mount.descriptor for mount in command.mounts if isinstance(mount, MountedTree)]
            passed = array.array("i", [text, *pipes.passed, other.fileno(), *trees])
            self._control.sendmsg([b"run"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        except OSError as error:
            answers.close()
            raise self._gone(command.argv) from error
        finally:
            other.close()
            os.close(text)
            pipes.close_passed()
        try:
            yield answers
        except BaseException:
            _kill(answers)
            _receive(answers)
            raise
        finally:
            answers.close()

    def _outcome(self, answers: socket.socket, argv: Sequence[str], cwd: str) -> tuple[int, str]:
        """The exit status, and the text for standard error if the command did not start."""
        code, failure = -1, ("", 0)
        while word := _receive(answers):
            kind, *rest = word.split()
            if kind == "exit":
                code = int(rest[0])
                break
            failure = (rest[0], int(rest[1]))
            if failure[0] == "fork":
                break
        stage, number = failure
        if stage in ("program", "folder") and number != errno.E2BIG:
            what = argv[0] if stage == "program" else f"the folder {cwd}"
            return _NOT_FOUND if number in _MISSING else _NOT_EXECUTABLE, f"{what}: {os.strerror(number)}\n"
        if number == errno.E2BIG:
            raise InstanceError(f"the arguments of {argv[0][:200]} are longer than the kernel takes")
        if stage:
            raise self._gone(argv, f"{stage}: {os.strerror(number)}")
        if code < 0:
            raise self._gone(argv)
        return code, ""

    def _gone(self, argv: Sequence[str], reason: str = "") -> InstanceError:
        said = os.pread(self._said, 4096, 0).decode(errors="replace").strip()
        reason = reason or self._sandbox.exit_message() or said or "its sandbox has ended"
        return InstanceError(f"{self._sandbox.name} cannot run {shlex.join(argv)[:2000]}: {reason}")


def _body(command: Command) -> bytes:
    """The command as the program reads it. Raises InstanceError for more mounts than one message carries."""
    if len(command.mounts) > MOST_MOUNTS:
        raise InstanceError(f"{len(command.mounts)} mounts of one command are more than {MOST_MOUNTS}")
    pack_arguments([mount.target for mount in command.mounts])
    mounts: list[dict[str, Any]] = [
        {"target": mount.target, "tree": True, "folder": mount.is_folder} if isinstance(mount, MountedTree)
        else {"target": mount.target, "size": mount.size, "files": dict(mount.files)}
        for mount in command.mounts
    ]  # fmt: skip
    return json.dumps({
        "argv": list(command.argv), "env": dict(command.env), "cwd": command.cwd or "/",
        "user": asdict(command.user) if command.user else None,
        "mounts": mounts, "network": command.network, "alone": command.alone,
    }).encode()  # fmt: skip


class _Pipes:
    """The streams of a command: our ends to pump, and the ends to pass to the command."""

    def __init__(self, stack: ExitStack, stdin: int, ours: Sequence[int], passed: list[int]) -> None:
        out, err = (stack.enter_context(os.fdopen(end, "rb", buffering=0)) for end in ours)
        self.stdin = stack.enter_context(os.fdopen(stdin, "wb", buffering=0)) if stdin >= 0 else None
        self.stdout, self.stderr = out, err
        self.passed = passed

    @classmethod
    def open(cls, stack: ExitStack, ids: HostIds, *, with_input: bool) -> _Pipes:
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        read, write = os.pipe()
        if not with_input:  # an empty pipe: through a descriptor of /dev/null, root inside could change the host's
            os.close(write)
            write = -1
        for end in (read, out_write, err_write):  # so that root inside can open /dev/stdout
            os.fchown(end, ids.first, ids.first)
        pipes = cls(stack, write, (out_read, err_read), [read, out_write, err_write])
        stack.callback(pipes.close_passed)
        return pipes

    def close_passed(self) -> None:
        while self.passed:
            os.close(self.passed.pop())


def _kill(answers: socket.socket) -> None:
    with contextlib.suppress(OSError):
        answers.shutdown(socket.SHUT_WR)


def _receive(answers: socket.socket) -> str:
    """The next answer; empty if the spawner has ended, or cannot kill its command in time."""
    answers.settimeout(_END_SECONDS)
    try:
        return answers.recv(256).decode()
    except OSError:
        return ""
