"""Calls on untrusted bytes, carried out in sealed processes that reach nothing but the descriptors they are given.

SealedProgram --request, descriptors--> sealed_program.py --fork--> a process of a user namespace of its own
              <--answer (JSON)--------------------------------------'

A process with threads, as the server is, cannot fork safely; the program forks for it. It runs while somebody uses
it, because its start takes longer than most calls.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from imagesmith import processes
from imagesmith.namespaces.build_namespace import explained
from imagesmith.namespaces.maker import NamespaceError
from imagesmith.namespaces.user_namespace import UserNamespace, free_ids, make_descriptor
from imagesmith.processes import Cancellation
from imagesmith.streams import wait_readable

_PROGRAM: Final = Path(__file__).with_name("sealed_program.py")
_SOURCE: Final = Path(__file__).parents[2]
_MAKE_SECONDS: Final = 60.0
_END_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 0.1
_MESSAGE_BYTES: Final = 1 << 16
_ANSWER_BYTES: Final = 512 * 1024**2

Serve = Callable[[Mapping[str, Any], Sequence[int]], None]
"""Does what a sealed process asks for: a question and descriptors. Raises OSError to refuse."""


class SealedCallFailed(OSError):
    """A call has no answer: its process failed, was killed or ran out of time. The text says which."""


class SealedProgram:
    """Calls of the `carry_out` of modules; thread-safe. `first`: a module that is imported while its callers still
    prepare their calls; `folders`: where modules are found, as in sys.path."""

    def __init__(self, first: str, *, folders: Sequence[str] | None = None) -> None:
        self._first = first
        self._folders = tuple(
            folders or (str(_SOURCE), *(entry for entry in sys.path if Path(entry).is_absolute()))
        )
        self._lock = threading.Lock()
        self._users = 0
        self._control: socket.socket | None = None
        self._end: weakref.finalize[Any, SealedProgram] | None = None
        self.pid = 0
        """The program, once it has been started."""

    def use(self) -> None:
        """Have the program run until as many calls of release(); it is not waited for. Raises OSError."""
        with self._lock:
            self._running()
            self._users += 1

    def release(self) -> None:
        """End the program if nobody uses it any more: a server without builds has no other process."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._stop()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Use it in a block."""
        self.use()
        try:
            yield
        finally:
            self.release()

    def namespace(self) -> UserNamespace:
        """A user namespace with ids that no other has; its caller uses the program, and closes it.

        Raises NamespaceError, NoIds.
        """
        ids, lease = free_ids()
        with explained():
            return UserNamespace(make_descriptor(self._make, ids, lease), ids, lease)

    def call(
        self, module: str, request: Mapping[str, Any], namespace: UserNamespace, descriptors: Sequence[int], *,
        seconds: float, scratch: int = -1, cancellation: Cancellation | None = None, serve: Serve | None = None,
    ) -> Any:  # fmt: skip
        """What the module's carry_out(request, call) returned in the namespace.

        It has `descriptors` as `call.descriptors`. `scratch`: a detached mount for /tmp. When this returns or
        raises, the process has ended, at most `seconds` after its start. Raises SealedCallFailed with the number of
        an OSError, if that was the reason; Cancelled.
        """
        if cancellation is not None:
            cancellation.check()
        with ExitStack() as stack:
            answers, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(answers)
            result = _memory_file(stack, b"")
            with other:
                text = _memory_file(stack, json.dumps({**request, "scratch": scratch >= 0}).encode())
                more = [*descriptors, *([scratch] if scratch >= 0 else [])]
                self._send(module.encode(), [text, result, other.fileno(), namespace.descriptor, *more])
            _Waiting(answers, serve).wait(time.monotonic() + seconds, seconds, cancellation)
            return _answer(os.pread(result, _ANSWER_BYTES, 0))

    def close(self) -> None:
        """End the program and its calls; a later one starts another."""
        with self._lock:
            self._stop()

    def _make(self, request: dict[str, Any]) -> int:
        with self._lock:
            control = self._send_locked(json.dumps(request).encode(), [])
            try:
                message, found, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
            except ConnectionResetError:
                message, found = b"", []
            except OSError as error:
                self._stop()
                raise NamespaceError(f"the program for sealed calls does not answer: {error}") from error
            if not message:
                self._stop()
                raise NamespaceError("the program for sealed calls has ended: it was killed, perhaps for memory")
        for descriptor in found:
            os.set_inheritable(descriptor, False)
        answer = json.loads(message)
        if "errno" in answer:
            raise NamespaceError(answer["errno"], str(answer["error"]))
        return found[0]

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        with self._lock:
            self._send_locked(message, descriptors)

    def _send_locked(self, message: bytes, descriptors: Sequence[int]) -> socket.socket:
        control = self._running()
        try:
            socket.send_fds(control, [message], list(descriptors))
        except (BrokenPipeError, ConnectionResetError):
            # it was killed
            self._stop()
            control = self._running()
            socket.send_fds(control, [message], list(descriptors))
        return control

    def _running(self) -> socket.socket:
        if self._control is not None:
            return self._control
        control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            # not supervised: the program ends when its socket does
            process = processes.start(
                [
                    sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_PROGRAM), str(other.fileno()),
                    *self._folders,
                ],
                env={"PATH": os.defpath, "LANG": "C.UTF-8"}, pass_fds=(other.fileno(),), cwd="/",
            )  # fmt: skip
        control.settimeout(_MAKE_SECONDS)
        self._control, self.pid = control, process.pid
        self._end = weakref.finalize(self, _end, control, process)
        control.send(self._first.encode())
        return control

    def _stop(self) -> None:
        self._control = None
        if self._end is not None:
            self._end()


class _Waiting:
    """Waits for the end of one call."""

    def __init__(self, answers: socket.socket, serve: Serve | None) -> None:
        self._answers = answers
        self._serve = serve
        self._process = -1

    def wait(self, until: float, seconds: float, cancellation: Cancellation | None) -> None:
        """Raises SealedCallFailed, Cancelled."""
        try:
            while not (wait_readable(self._answers.fileno(), _TICK_SECONDS) and self._is_done()):
                if cancellation is not None:
                    cancellation.check()
                if time.monotonic() > until:
                    raise SealedCallFailed(errno.ETIME, f"it was stopped after {seconds:.0f} s")
        finally:
            self._end()

    def _is_done(self) -> bool:
        try:
            message, found, _, _ = socket.recv_fds(self._answers, _MESSAGE_BYTES, 2)
        except ConnectionResetError:
            message, found = b"", []
        if message == b"started" and self._process < 0:
            (self._process,) = found
            os.set_inheritable(self._process, False)
            return False
        with ExitStack() as stack:
            for descriptor in found:
                stack.callback(os.close, descriptor)
            if message.startswith(b"failed "):
                number, text = message.decode(errors="replace").split(" ", 2)[1:]
                raise SealedCallFailed(int(number), text)
            if not message:
                raise SealedCallFailed(
                    errno.ECHILD, "the sealed process was killed: perhaps it needed too much memory"
                )
            if message != b"done":
                self._answer(message, found)
        return message == b"done"

    def _answer(self, message: bytes, descriptors: Sequence[int]) -> None:
        code = 0
        try:
            if self._serve is None:
                raise PermissionError(errno.EPERM, "nothing is served")
            self._serve(json.loads(message), descriptors)
        except OSError as error:
            code = error.errno or errno.EIO
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            code = errno.EINVAL
        self._answers.send(str(code).encode())

    def _end(self) -> None:
        """The process holds mounts of folders that the caller removes, and the ids that it gives back."""
        if self._process < 0 and wait_readable(self._answers.fileno(), _END_SECONDS):
            with contextlib.suppress(SealedCallFailed):
                self._is_done()
        if self._process < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        wait_readable(self._process, _END_SECONDS)
        os.close(self._process)


def _answer(data: bytes) -> Any:
    """Raises SealedCallFailed."""
    try:
        found = json.loads(data)
        if "answer" in found:
            return found["answer"]
        number, words = found["errno"], str(found["failed"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SealedCallFailed(errno.EBADMSG, f"the sealed process answered something else: {error}") from error
    raise SealedCallFailed(number if isinstance(number, int) else errno.EIO, words)


def _memory_file(stack: ExitStack, data: bytes) -> int:
    descriptor = os.memfd_create("sealed")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
        return
    process.kill()
    process.wait()
