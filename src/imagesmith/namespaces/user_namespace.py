"""A user namespace with the root of an image in it, held by a program of ours.

    UserNamespace.start(lowers, upper)  -->  holder_program.py: maps ids, mounts the root at ROOT
         |                                       ^
         | enter(argv): a program in it          | open(path): a file of the root, as a descriptor
         '---------------------------------------'

Neither this process nor anything of the machine is visible to be changed from within: uid 0 there is an ordinary id
outside. The mounts belong to the namespace and end with it, however this process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith import processes
from imagesmith.namespaces.id_maps import IdMap, IdRange
from imagesmith.namespaces.maker import NamespaceError

ROOT = "/run/root"
"""The root of the image in the mounts of the namespace."""
MOST_LAYERS = 120
"""Layers of one root: their names must fit into the one page that mount options may take."""

_PROGRAM = Path(__file__).with_name("holder_program.py")
_ANSWER_SECONDS = 60.0
_END_SECONDS = 30.0
_LARGEST = 1 << 20


@dataclass(frozen=True)
class RootLayers:
    """The folders of a root."""

    lowers: Sequence[Path]
    """Folders of layers, the top one first."""
    upper: Path | None = None
    """Holds the changes in `upper` and the overlay's own files in `work`; None: nothing is written."""


class UserNamespace:
    """A running namespace; close() ends it. Make one with `start`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def start(cls, layers: RootLayers, ids: IdMap) -> UserNamespace:
        """Make the namespace and mount the root. Raises NamespaceError."""
        if len(layers.lowers) > MOST_LAYERS:
            raise NamespaceError(f"the image has {len(layers.lowers)} layers, and {MOST_LAYERS} can be mounted")
        control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            # not supervised: the program ends when its socket does, and a signal to it would leave its programs
            process = processes.start(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_PROGRAM), str(other.fileno())],
                pass_fds=(other.fileno(),), cwd="/",
            )  # fmt: skip
        namespace = cls(process, control)
        try:
            control.settimeout(_ANSWER_SECONDS)
            namespace._ask(
                {
                    "maps": {"uid": _rows(ids.users), "gid": _rows(ids.groups)},
                    "privileged": ids.privileged,
                    "lowers": [str(lower) for lower in layers.lowers],
                    "upper": str(layers.upper) if layers.upper else None,
                }
            )
        except BaseException:
            namespace.close()
            raise
        return namespace

    @property
    def pid(self) -> int:
        """The holder, as the machine counts."""
        return self._process.pid

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs a program as root of the namespace, in its mounts."""
        place = f"/proc/{self.pid}/ns"
        ways = [f"--user={place}/user", f"--mount={place}/mnt", "--setuid=0", "--setgid=0"]
        return ["nsenter", *ways, "--", *argv]

    def open(self, path: str, flags: int = os.O_RDONLY, *, mode: int = 0, follow: bool = True) -> int:
        """A descriptor of a file of the root, whose links lead nowhere else; the caller closes it.

        `follow=False` refuses any symbolic link on the way. Raises OSError as `open` does, NamespaceError.
        """
        request = {"path": path, "flags": flags, "mode": mode, "follow": follow}
        _, descriptors = self._ask(request)
        if not descriptors:
            raise NamespaceError("the holder of the namespace passed no file")
        return descriptors[0]

    def close(self) -> None:
        """End the holder. Programs that entered hold the namespace themselves; end them first."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with self._lock:
            if self._closed:
                raise NamespaceError("the namespace is closed")
            try:
                self._control.send(json.dumps(request).encode())
                message, descriptors, _, _ = socket.recv_fds(self._control, _LARGEST, 1)
            except TimeoutError as error:
                raise NamespaceError(f"the holder did not answer within {_ANSWER_SECONDS:.0f} s") from error
            except OSError as error:
                raise NamespaceError(f"the namespace has ended: {error.strerror}") from error
        if not message:
            raise NamespaceError("the namespace has ended")
        answer = json.loads(message)
        if "errno" in answer:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            words = str(answer["error"])
            if "path" in request:
                raise OSError(answer["errno"], words, request["path"])
            raise NamespaceError(answer["errno"], words)
        return answer, descriptors


def _rows(parts: Sequence[IdRange]) -> list[list[int]]:
    return [[part.inside, part.outside, part.count] for part in parts]
