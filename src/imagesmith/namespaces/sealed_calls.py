"""Calls on untrusted bytes, carried out in sealed processes that reach nothing but the descriptors they are given.

SealedProgram --request, descriptors--> sealed_program.py --fork--> a process of a user namespace of its own
              <--answer (JSON)--------------------------------------'

A process with threads, as the server is, cannot fork safely; the program forks for it. It runs while somebody uses
it, because its start takes longer than most calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from imagesmith import processes
from imagesmith.namespaces.build_namespace import explained
from imagesmith.namespaces.maker import NamespaceError
from imagesmith.namespaces.sealed_answers import Serve, Waiting, read_result, result_file
from imagesmith.namespaces.user_namespace import UserNamespace, free_ids, make_descriptor
from imagesmith.processes import Cancellation

_PROGRAM: Final = Path(__file__).with_name("sealed_program.py")
_SOURCE: Final = Path(__file__).parents[2]
_MAKE_SECONDS: Final = 60.0
_END_SECONDS: Final = 30.0
_MESSAGE_BYTES: Final = 1 << 16
_RESULT_BYTES: Final = 8 * 1024**2
_LAST_SECONDS: Final = 1.0
"""Between the end of a socket and that of the process that held it."""
_WORDS: Final = 4096
_ENDED: Final = "the program for sealed calls has ended"


class _Running:
    """One run of the program, with what it wrote to standard error."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, said: int) -> None:
        self.process = process
        self.control = control
        self._said = said
        weakref.finalize(self, os.close, said)

    def words(self) -> str:
        """The reason of its end; empty if it gave none, and while it runs."""
        size = os.fstat(self._said).st_size
        said = os.pread(self._said, _WORDS, max(size - _WORDS, 0)).decode(errors="replace").strip()
        return f"{_ENDED}: {said}" if said and processes.wait_ended(self.process, _LAST_SECONDS) else ""


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
        self._run: _Running | None = None
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
        most_bytes: int = _RESULT_BYTES,
    ) -> Any:  # fmt: skip
        """What the module's carry_out(request, call) returned in the namespace, of at most `most_bytes` as JSON.

        It has `descriptors` as `call.descriptors`. `scratch`: a detached mount for /tmp. When this returns or
        raises, the process has ended, at most `seconds` after its start; one that cannot be ended keeps the ids of
        the namespace. Raises SealedCallFailed with the number of an OSError, if that was the reason; Cancelled.
        """
        if cancellation is not None:
            cancellation.check()
        with ExitStack() as stack:
            answers, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(answers)
            result = result_file(most_bytes)
            stack.callback(os.close, result)
            with other:
                text = _memory_file(stack, json.dumps({**request, "scratch": scratch >= 0}).encode())
                more = [*descriptors, *([scratch] if scratch >= 0 else [])]
                run = self._send(module.encode(), [text, result, other.fileno(), namespace.descriptor, *more])
            waiting = Waiting(answers, serve, run.words)
            try:
                waiting.wait(time.monotonic() + seconds, seconds, cancellation)
            finally:
                if not waiting.ended:
                    namespace.keep_ids()
            return read_result(result)

    def close(self) -> None:
        """End the program and its calls; a later one starts another."""
        with self._lock:
            self._stop()

    def _make(self, request: dict[str, Any]) -> int:
        with self._lock:
            run = self._send_locked(json.dumps(request).encode(), [])
            try:
                message, found, _, _ = socket.recv_fds(run.control, _MESSAGE_BYTES, 1)
            except ConnectionResetError:
                message, found = b"", []
            except OSError as error:
                self._stop()
                raise NamespaceError(f"the program for sealed calls does not answer: {error}") from error
            if not message:
                self._stop()
                raise NamespaceError(run.words() or f"{_ENDED}: it was killed, perhaps for memory")
        for descriptor in found:
            os.set_inheritable(descriptor, False)
        answer = json.loads(message)
        if "errno" in answer:
            raise NamespaceError(answer["errno"], str(answer["error"]))
        return found[0]

    def _send(self, message: bytes, descriptors: Sequence[int]) -> _Running:
        with self._lock:
            return self._send_locked(message, descriptors)

    def _send_locked(self, message: bytes, descriptors: Sequence[int]) -> _Running:
        run = self._running()
        try:
            socket.send_fds(run.control, [message], list(descriptors))
        except (BrokenPipeError, ConnectionResetError):
            # it was killed
            self._stop()
            run = self._running()
            socket.send_fds(run.control, [message], list(descriptors))
        return run

    def _running(self) -> _Running:
        if self._run is None:
            self._run = _start_program(self._folders)
            self.pid = self._run.process.pid
            self._end = weakref.finalize(self, _end, self._run)
            self._run.control.send(self._first.encode())
        return self._run

    def _stop(self) -> None:
        self._run = None
        if self._end is not None:
            self._end()


def _memory_file(stack: ExitStack, data: bytes) -> int:
    descriptor = os.memfd_create("sealed")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _start_program(folders: Sequence[str]) -> _Running:
    """Not supervised: the program ends when its socket does. Raises OSError."""
    control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ExitStack() as failed, other:
        failed.callback(control.close)
        said = os.memfd_create("sealed-calls")
        failed.callback(os.close, said)
        process = processes.start(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_PROGRAM), str(other.fileno()), *folders],
            env={"PATH": os.defpath, "LANG": "C.UTF-8"}, pass_fds=(other.fileno(),), stderr=said, cwd="/",
        )  # fmt: skip
        failed.pop_all()
    control.settimeout(_MAKE_SECONDS)
    return _Running(process, control, said)


def _end(run: _Running) -> None:
    run.control.close()
    if not processes.wait_ended(run.process, _END_SECONDS):
        run.process.kill()
        run.process.wait()
