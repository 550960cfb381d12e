"""What comes back of one sealed call: messages of its process, the end of it, and the file with its answer.

Nothing of this is believed: the process may have been taken over by the bytes that it reads. It may say anything,
ask without end, or never read what it is told.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from imagesmith.processes import Cancellation
from imagesmith.streams import wait_readable

_END_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 0.1
_MESSAGE_BYTES: Final = 1 << 16
_KILLED: Final = "the sealed process was killed: perhaps it needed too much memory"

Serve = Callable[[Mapping[str, Any], Sequence[int]], None]
"""Does what a sealed process asks for: a question and descriptors. Raises OSError to refuse."""


class SealedCallFailed(OSError):
    """A call has no answer: its process failed, was killed or ran out of time. The text says which."""


class Waiting:
    """Waits for the end of one call. `why_ended`: what to say of a process that ended without a word."""

    def __init__(
        self, answers: socket.socket, serve: Serve | None, why_ended: Callable[[], str] = lambda: ""
    ) -> None:
        self._answers = answers
        self._serve = serve
        self._why_ended = why_ended
        self._process = -1
        self.ended = False
        """Whether nothing of the call runs any more, after wait()."""

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
            # without a descriptor, this process has too many open files, and waits for the end of the socket
            if found:
                self._process = found[0]
                os.set_inheritable(self._process, False)
            return False
        with ExitStack() as stack:
            for descriptor in found:
                stack.callback(os.close, descriptor)
            if message.startswith(b"failed "):
                raise _failure(message)
            if not message:
                raise SealedCallFailed(errno.ECHILD, self._why_ended() or _KILLED)
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
        try:
            self._answers.send(str(code).encode(), socket.MSG_DONTWAIT)
        except BlockingIOError as error:
            raise SealedCallFailed(errno.EPROTO, "the sealed process asks without reading the answers") from error
        except (BrokenPipeError, ConnectionResetError):
            # it has ended: what it said before is still to be read
            return

    def _end(self) -> None:
        """The process holds mounts of folders that the caller removes, and the ids that it gives back."""
        if self._process < 0 and wait_readable(self._answers.fileno(), _END_SECONDS):
            try:
                self._is_done()
            except SealedCallFailed:
                self.ended = True
        if self._process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            self.ended = wait_readable(self._process, _END_SECONDS)
            os.close(self._process)
        if not self.ended:
            raise SealedCallFailed(errno.EBUSY, f"the sealed process did not end in {_END_SECONDS:.0f} s")


def result_file(most_bytes: int) -> int:
    """A descriptor of a file in memory that nobody can make larger; its holder closes it."""
    descriptor = os.memfd_create("result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, most_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def read_result(descriptor: int) -> Any:
    """The answer in the file of a call that has ended. Raises SealedCallFailed."""
    # the rest of the file is a hole: it was never written
    data = os.pread(descriptor, os.lseek(descriptor, 0, os.SEEK_HOLE), 0).rstrip(b"\0")
    try:
        found = json.loads(data)
        if "answer" in found:
            return found["answer"]
        number, words = found["errno"], str(found["failed"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SealedCallFailed(errno.EBADMSG, f"the sealed process answered something else: {error}") from error
    raise SealedCallFailed(number if isinstance(number, int) else errno.EIO, words)


def _failure(message: bytes) -> SealedCallFailed:
    """`failed ERRNO WORDS` as an error."""
    try:
        number, words = message.decode(errors="replace").split(" ", 2)[1:]
        return SealedCallFailed(int(number), words)
    except ValueError:
        return SealedCallFailed(errno.EBADMSG, "the sealed process answered something else")
