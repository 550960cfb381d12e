"""The program that makes user namespaces for a process with threads; it ends with its owner.

NamespaceMaker --request, descriptors--> maker_program.py --fork--> a child inside a namespace
               <--a descriptor--------------------------------------'
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from imagesmith import processes

_PROGRAM: Final = Path(__file__).with_name("maker_program.py")
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 30.0
_LARGEST: Final = 1 << 20


class NamespaceError(OSError):
    """A namespace could not be made or entered; the text says which step failed and what to try."""


class NamespaceMaker:
    """Thread-safe. The program runs while somebody uses it, in the mounts that this process has at its start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._control: socket.socket | None = None
        self.pid = 0
        """The program, once it has been started."""
        self._end: weakref.finalize[Any, NamespaceMaker] | None = None

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> int:
        """The descriptor that the program answers with; the caller closes it. Raises NamespaceError."""
        with self._lock:
            control = self._control or self._start()
            try:
                socket.send_fds(control, [json.dumps(request).encode()], list(descriptors))
                message, found, _, _ = socket.recv_fds(control, _LARGEST, 1)
            except OSError as error:
                self._stop()
                raise NamespaceError(f"the maker of user namespaces does not answer: {error}") from error
            if not message:
                self._stop()
                raise NamespaceError("the maker of user namespaces has ended: it was killed, perhaps for memory")
        for descriptor in found:
            os.set_inheritable(descriptor, False)
        answer = json.loads(message)
        if "errno" in answer:
            raise NamespaceError(answer["errno"], str(answer["error"]))
        return found[0]

    def use(self) -> None:
        """Have the program run until as many calls of release()."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """End the program if nobody uses it any more: a server without builds has no other process."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._stop()

    def __enter__(self) -> NamespaceMaker:
        """Keep the program for a block that needs several namespaces, one after the other."""
        self.use()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def close(self) -> None:
        """End the program; a later request starts another."""
        with self._lock:
            self._stop()

    def _start(self) -> socket.socket:
        control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            # not supervised: the program ends when its socket does
            process = processes.start(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_PROGRAM), str(other.fileno())],
                pass_fds=(other.fileno(),), cwd="/",
            )  # fmt: skip
        control.settimeout(_ANSWER_SECONDS)
        self._control, self.pid = control, process.pid
        self._end = weakref.finalize(self, _end, control, process)
        return control

    def _stop(self) -> None:
        self._control = None
        if self._end is not None:
            self._end()


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    if not processes.wait_ended(process, _END_SECONDS):
        process.kill()
        process.wait()
