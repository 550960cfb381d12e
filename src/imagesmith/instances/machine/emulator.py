"""A running QEMU in a sandbox of its own, its console and its control socket.

    thread of ours          processes.run(...): reads the console; ends with QEMU, or ends it
      sandbox               namespaces that hold tools, the machine's folder, the parent disk and /dev/kvm
        slirp4netns         the way out: not to the host's loopback, nor to its own addresses (instances/network.py)
        169.254.169.254     answered by this process (metadata.py)
        QEMU                no capabilities, seccomp; its user network is inside the sandbox's
          guest

However this process ends, the sandbox's first process dies with it and the kernel ends everything in it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from imagesmith import processes
from imagesmith.instances.bubblewrap import Bind, View
from imagesmith.instances.limits import Limits
from imagesmith.instances.machine.console import Console
from imagesmith.instances.machine.hardware import FOLDER, OVERHEAD_MB, Acceleration, Hardware, command_line
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.metadata import InstanceFacts, MetadataService
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import HOLDER, Sandbox
from imagesmith.processes import Cancellation, Completed, Stream

_FILE_SPARE_MB = 1024
_QMP_SECONDS = 30.0
_END_SECONDS = 20.0
_POLL_SECONDS = 0.05
_NO_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")


class Emulator:
    """One QEMU. Make one with `start`; `close()` ends it and its sandbox."""

    def __init__(self, name: str, folder: Path, console: Console, loop: LoopThread) -> None:
        self.name = name
        self.folder = folder
        self.console = console
        self.loop = loop
        self.sandbox: Sandbox | None = None
        self.completed: Completed | None = None
        self._ended = threading.Event()
        self._kill = Cancellation()
        self._thread: threading.Thread | None = None
        self._client: QMPClient | None = None
        self._endings = EventListener("SHUTDOWN")
        self._metadata: MetadataService | None = None

    @classmethod
    def start(
        cls,
        name: str,
        hardware: Hardware,
        acceleration: Acceleration,
        *,
        folder: Path,
        parents: tuple[Path, ...],
        console: Console,
        loop: LoopThread,
        limits: Limits,
        disk_mb: int,
        facts: InstanceFacts | None = None,
    ) -> Emulator:
        """Start QEMU on the disks in `folder`; `parents` are what they are overlays of. Raises InstanceError.

        `facts`: what its metadata service tells; without them there is none.
        """
        emulator = cls(name, folder, console, loop)
        try:
            emulator._start(hardware, acceleration, parents, limits, disk_mb, facts)
            if hardware.kernel is not None:
                emulator._listen()
        except BaseException:
            emulator.close()
            raise
        return emulator

    @property
    def running(self) -> bool:
        return self._thread is not None and not self._ended.is_set()

    @property
    def restarted(self) -> bool:
        """The guest restarted itself, and QEMU ended because it was to start a kernel of ours only once."""
        if self.running or self._client is None:
            return False
        with contextlib.suppress(Exception):
            # what QEMU said last may not have been read yet
            self.loop.call(self._client.disconnect(), timeout=_END_SECONDS)
        endings: list[Mapping[str, Any]] = [*self._endings.history]
        return any(event["data"]["reason"] == "guest-reset" for event in endings)

    @property
    def network(self) -> Path:
        """The network namespace of the machine. Raises InstanceError once it is gone."""
        if self.sandbox is None or not self.running:
            raise InstanceError(f"machine {self.name}: {self.last_words()}")
        return self.sandbox.namespace("net")

    def wait(self, seconds: float) -> bool:
        """Wait for the end of QEMU; whether it has ended."""
        return self._ended.wait(seconds)

    def last_words(self) -> str:
        """How QEMU ended and what it said about it."""
        if self.running or self.completed is None:
            return "QEMU runs"
        said = self.completed.stderr.decode(errors="replace").strip().splitlines()
        return f"QEMU ended ({self.completed.ending})" + (f": {said[-1]}" if said else "")

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a QMP command. Raises InstanceError."""
        if not self.running:
            raise InstanceError(f"machine {self.name}: {self.last_words()}")
        try:
            return self.loop.call(self._execute(command, arguments), timeout=_QMP_SECONDS)
        except (QMPError, OSError, TimeoutError) as error:
            raise InstanceError(f"machine {self.name}: QEMU did not obey {command}: {error}") from error

    def close(self) -> None:
        """End QEMU and everything around it; safe to call twice."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self.loop.call(self._client.disconnect(), timeout=2.0)
            self._client = None
        self._kill.cancel()
        if self._metadata is not None:
            self._metadata.close()
            self._metadata = None
        if self.sandbox is not None:
            self.sandbox.close()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _start(
        self,
        hardware: Hardware,
        acceleration: Acceleration,
        parents: tuple[Path, ...],
        limits: Limits,
        disk_mb: int,
        facts: InstanceFacts | None,
    ) -> None:
        binds = [Bind(self.folder, FOLDER, writable=True)]
        binds += [Bind(parent, str(parent)) for parent in parents]
        self.sandbox = Sandbox.start(
            self.name,
            view=View(tuple(binds), devices=("/dev/kvm",) if acceleration == "kvm" else ()),
            holder=HOLDER, network="outbound",
            limits=replace(
                limits, memory_mb=hardware.memory_mb + OVERHEAD_MB, file_mb=disk_mb + _FILE_SPARE_MB
            ),
            disk=self.folder,
        )  # fmt: skip
        if facts is not None:
            self.sandbox.ready()
            try:
                self._metadata = MetadataService(facts, self.sandbox.namespace("net"))
            except (OSError, processes.ProcessFailed) as error:
                raise InstanceError(f"machine {self.name} has no metadata service: {error}") from error
        entry = self.sandbox.enter([*_NO_RIGHTS, *command_line(hardware, acceleration)])

        def keep(stream: Stream, chunk: bytes) -> None:
            if stream == "stdout":
                self.console.add(chunk)

        def live() -> None:
            try:
                self.completed = processes.run(
                    entry.argv, env=entry.environment, on_output=keep, cancellation=self._kill, limit=65536
                )
            except (processes.Cancelled, OSError):
                pass
            finally:
                self._ended.set()

        self._thread = threading.Thread(target=live, name=f"machine-{self.name}", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        """Connect to QEMU now, so that its last words are heard. Raises InstanceError."""
        until = time.monotonic() + _QMP_SECONDS
        while self.running and not (self.folder / "qmp").exists() and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        if self.running:
            self.execute("query-status")

    async def _execute(self, command: str, arguments: Mapping[str, Any] | None) -> Any:
        if self._client is None:
            self._client = await self._connect()
        return await self._client.execute(command, dict(arguments or {}))

    async def _connect(self) -> QMPClient:
        client = QMPClient(self.name)
        # Through a descriptor: the address of a socket has 107 characters, and a data directory may have more.
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        try:
            await client.connect(f"/proc/self/fd/{folder}/qmp")
        finally:
            os.close(folder)
        client.register_listener(self._endings)
        return client
